//! Settings of Typeform's webhook.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;
use settings::Faults;

use super::{Secret, Secrets};

/// How deliveries of Typeform are verified and read.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Typeform")]
pub struct Typeform {
    /// File with the secret of the webhook; while it is changed, a line each for the
    /// new one and the old [default: every delivery is refused]
    #[arg(long = "typeform-secret-file", value_name = "FILE", value_parser = settings::path)]
    pub secret_file: Option<PathBuf>,
    /// What `secret_file` holds; the host program reads it.
    #[arg(skip)]
    pub secrets: Secrets,
    /// File with an access token for files that are not public [default: none is sent]
    #[arg(long = "typeform-token-file", value_name = "FILE", value_parser = settings::path)]
    pub token_file: Option<PathBuf>,
    /// What `token_file` holds; the host program reads it.
    #[arg(skip)]
    pub token: Option<Secret>,
    /// Hidden field of the form with the signed value that names the user
    #[arg(
        long = "typeform-user-field",
        value_name = "NAME",
        default_value = "user_id",
        value_parser = settings::name
    )]
    pub user_field: String,
    /// Accept the user's id alone in the hidden field. Whoever can open the form can then
    /// put files into anybody's list
    #[arg(
        long = "typeform-bare-ids",
        value_name = "BOOL",
        default_value = "false",
        action = clap::ArgAction::Set,
        hide_possible_values = true
    )]
    pub bare_ids: bool,
    /// Document types of the form's file fields, by their `ref`, such as
    /// `licence=driving_license_picture`; other files are ignored [default: none]
    #[arg(
        long = "typeform-documents",
        value_name = "PAIRS",
        default_value = "",
        hide_default_value = true,
        value_parser = settings::pairs
    )]
    pub documents: BTreeMap<String, String>,
    /// The host that the token is sent to. Default `api.typeform.com`.
    #[arg(skip = "api.typeform.com")]
    pub files_host: String,
}

impl Default for Typeform {
    fn default() -> Self {
        settings::defaults()
    }
}

impl Typeform {
    /// `document_types` are those that pictures may have.
    pub(super) fn check(&self, document_types: &[String], faults: &mut Faults) {
        faults.check_text("typeform-user-field", &self.user_field, settings::name);
        for (field, document_type) in &self.documents {
            if !document_types.contains(document_type) {
                faults.push(
                    "typeform-documents",
                    format!(
                        "says that `{field}` is a `{document_type}`, which is not one of \
                         `--document-types`, add it there"
                    ),
                );
            }
        }
    }
}
