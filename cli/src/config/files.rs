//! Open files: what a role may have open at a time, fitted to what this process may open.
//!
//! What always holds after a start: connections, links, the log, jobs and everything else
//! fit into the limit together, so that none of them takes the descriptors of another.

use settings::{Connections, OpenFiles};

use super::{Loaded, roles::Role};

/// Connections that are left of each kind at least; with fewer a start is refused.
const FEWEST: usize = 64;

/// Makes connections fit into `limit` files: numbers that nobody wrote are lowered, in
/// proportion, which the answer says; a number that somebody wrote is not.
pub(super) fn fit<R: Role>(
    loaded: &mut Loaded<R>,
    limit: Option<u64>,
) -> Result<Vec<String>, String> {
    let Some(limit) = limit else {
        return Ok(Vec::new());
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut all = loaded.role.other_files();
    let mut elastic = Vec::new();
    for connections in loaded.role.connections() {
        let written = connections
            .setting
            .is_some_and(|setting| loaded.given.contains_key(setting));
        if written || *connections.count <= FEWEST {
            all.push(files_of(&connections));
        } else {
            elastic.push(connections);
        }
    }
    let fixed: usize = all.iter().map(|files| files.most).sum();
    let wanted: usize = elastic.iter().map(|at| files_of(at).most).sum();
    if fixed + wanted <= limit {
        return Ok(Vec::new());
    }
    let fewest: usize = elastic.iter().map(|at| FEWEST * at.files_each).sum();
    if fixed + fewest > limit {
        all.extend(elastic.iter().map(files_of));
        return Err(refusal(limit, &all));
    }
    let room = limit - fixed - fewest;
    let beyond = wanted - fewest;
    let lowered = elastic.into_iter().map(|connections| {
        let Connections {
            setting,
            what,
            count,
            ..
        } = connections;
        // At most 10^6 files, so that no product overflows.
        *count = FEWEST + (*count - FEWEST) * room / beyond;
        let name = setting.map_or_else(String::new, |setting| format!(" (`--{setting}`)"));
        format!("this process may open {limit} files: {count} {what}{name} at most")
    });
    Ok(lowered.collect())
}

fn files_of(connections: &Connections<'_>) -> OpenFiles {
    OpenFiles::new(
        connections.what,
        connections.count.saturating_mul(connections.files_each),
    )
}

/// The sum, spelled out.
fn refusal(limit: usize, files: &[OpenFiles]) -> String {
    let sum: usize = files.iter().map(|files| files.most).sum();
    let files: Vec<_> = files.iter().map(ToString::to_string).collect();
    format!(
        "this process may open {limit} files, but its limits add up to {sum} ({}): lower \
         `--max-connections` or `--max-grpc-connections`, or raise the limit (`LimitNOFILE=`, \
         `ulimit -Hn`)",
        files.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::config::{
        layers::{Origin, Raw},
        load,
        roles::{Edge, Notifier, Processors, Up},
    };

    fn role<R: Role>(written: &[(&str, &str)]) -> Loaded<R> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("belfry.toml");
        fs::write(&file, "").unwrap();
        let given: BTreeMap<_, _> = written
            .iter()
            .map(|(setting, text)| {
                let (text, origin) = ((*text).to_owned(), Origin::Flag);
                ((*setting).to_owned(), Raw { text, origin })
            })
            .collect();
        load(&given, Some(&file)).unwrap()
    }

    fn sum<R: Role>(loaded: &mut Loaded<R>) -> usize {
        let others: usize = loaded.role.other_files().iter().map(|at| at.most).sum();
        let connections = loaded.role.connections();
        others
            + connections
                .iter()
                .map(|at| files_of(at).most)
                .sum::<usize>()
    }

    fn fits<R: Role>(limit: usize) -> Vec<String> {
        let mut loaded = role::<R>(&[]);
        let notes = fit(&mut loaded, Some(limit as u64)).unwrap();
        assert!(sum(&mut loaded) <= limit, "{limit}: {}", sum(&mut loaded));
        notes
    }

    #[test]
    fn the_defaults_fit_into_a_million_files_as_they_are() {
        assert_eq!(fits::<Up>(1_048_576), [""; 0]);
        assert_eq!(fits::<Edge>(1_048_576), [""; 0]);
        assert_eq!(fits::<Notifier>(1_048_576), [""; 0]);
        assert_eq!(fits::<Processors>(1_048_576), [""; 0]);
    }

    #[test]
    fn defaults_are_lowered_in_proportion_and_said() {
        for notes in [fits::<Up>(4_096), fits::<Up>(20_000)] {
            assert_eq!(notes.len(), 3, "{notes:?}");
            assert!(notes[0].contains("(`--max-connections`)"), "{notes:?}");
        }
        assert_eq!(fits::<Edge>(4_096).len(), 1);
        assert_eq!(fits::<Notifier>(4_096), [""; 0]);
        assert_eq!(fits::<Notifier>(1_024).len(), 1);
        assert_eq!(fits::<Processors>(1_024).len(), 1);
    }

    #[test]
    fn what_was_written_or_cannot_work_is_refused_with_the_sum() {
        let mut edge = role::<Edge>(&[("max-connections", "5000")]);
        let refused = fit(&mut edge, Some(4_096)).unwrap_err();
        for text in [
            "may open 4096 files",
            "5000 for WebSocket connections",
            "1024 for HTTP connections of the edge",
            "LimitNOFILE=",
            &sum(&mut edge).to_string(),
        ] {
            assert!(refused.contains(text), "{text}: {refused}");
        }
        assert!(fit(&mut role::<Up>(&[]), Some(1_024)).is_err());
        assert!(fit(&mut role::<Notifier>(&[]), Some(80)).is_err());
        assert_eq!(fit(&mut role::<Notifier>(&[]), None), Ok(Vec::new()));
    }
}
