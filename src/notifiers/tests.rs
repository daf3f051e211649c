//! Which notifier is chosen after which failure.

use super::*;

const A: &str = "http://127.0.0.1:1";
const B: &str = "http://127.0.0.1:2";
const C: &str = "http://127.0.0.1:3";

fn of(list: &str) -> Notifiers {
    Notifiers::new(list, &ClientTls::default(), |endpoint| endpoint).unwrap()
}

fn moved(to: &str) -> Elsewhere {
    Elsewhere::Moved(Some(to.to_owned()))
}

/// The current one fails: what follows.
fn fail(notifiers: &Notifiers, failure: Option<&Elsewhere>) -> (Retry, String) {
    let retry = notifiers.after(&notifiers.current(), failure);
    (retry, notifiers.current().address().to_owned())
}

#[tokio::test]
async fn those_that_are_away_are_passed_in_turn_and_one_alone_is_kept() {
    let two = of(&format!("{A}, {B}"));
    assert_eq!(two.current().address(), A);
    let away = Some(&Elsewhere::Away);
    assert_eq!(fail(&two, away), (Retry::Elsewhere, B.to_owned()));
    assert_eq!(fail(&two, away), (Retry::Elsewhere, A.to_owned()));
    assert_eq!(fail(&two, None), (Retry::Here, A.to_owned()));
    let moved_somewhere = Some(&Elsewhere::Moved(None));
    assert_eq!(
        fail(&two, moved_somewhere),
        (Retry::Elsewhere, B.to_owned())
    );
    let one = of(A);
    assert_eq!(fail(&one, away), (Retry::Here, A.to_owned()));
}

#[tokio::test]
async fn a_hint_is_followed_at_once_but_not_around_in_circles() {
    let two = of(&format!("{A},{B}"));
    assert_eq!(fail(&two, Some(&moved(B))), (Retry::AtOnce, B.to_owned()));
    assert_eq!(
        fail(&two, Some(&moved(A))),
        (Retry::Elsewhere, A.to_owned())
    );
    // An address that is not of the list, and then back to it.
    let one = of(A);
    assert_eq!(fail(&one, Some(&moved(C))), (Retry::AtOnce, C.to_owned()));
    let away = Some(&Elsewhere::Away);
    assert_eq!(fail(&one, away), (Retry::Elsewhere, A.to_owned()));
}

#[tokio::test]
async fn calls_that_failed_together_choose_once() {
    let three = of(&format!("{A},{B},{C}"));
    let used = three.current();
    let away = Some(&Elsewhere::Away);
    assert_eq!(three.after(&used, away), Retry::Elsewhere);
    assert_eq!(three.after(&used, away), Retry::Elsewhere);
    assert_eq!(three.current().address(), B);
    let used = three.current();
    for _ in 0..3 {
        assert_eq!(three.after(&used, Some(&moved(C))), Retry::AtOnce);
        assert_eq!(three.current().address(), C);
    }
}

#[tokio::test]
async fn a_hint_that_may_not_be_connected_to_is_passed_over() {
    let two = of(&format!("{A},{B}"));
    for bad in ["http://10.0.0.1:1", "https://n.test", "n.test", A] {
        let used = two.current();
        let expected = if used.address() == A { B } else { A };
        let (retry, address) = match bad {
            A => fail(&two, Some(&moved(used.address()))),
            bad => fail(&two, Some(&moved(bad))),
        };
        assert_eq!((retry, &*address), (Retry::Elsewhere, expected), "{bad}");
    }
}

#[tokio::test]
async fn a_list_is_bounded_and_each_address_is_checked() {
    let new = |list: &str| Notifiers::new(list, &ClientTls::default(), |e| e).map(|_| ());
    let many = [A; MAX_NOTIFIERS + 1].join(",");
    assert!(matches!(new(&many), Err(AddressError::TooMany)));
    assert!(new(&[A; MAX_NOTIFIERS].join(",")).is_ok());
    for bad in ["", "http://127.0.0.1:1,", "http://127.0.0.1:1,ws://n.test"] {
        assert!(new(bad).is_err(), "{bad}");
    }
}
