//! Pictures: what is in them, and where the lines of their axes go.

use super::*;

fn bar(name: &str, value: Option<f64>) -> Bar {
    Bar {
        name: name.to_owned(),
        ink: Ink::Peer(0),
        value,
        words: "words".to_owned(),
        samples: value.into_iter().collect(),
        may_leave: name == "local",
    }
}

#[test]
fn axes_have_round_values_within_their_ends() {
    assert_eq!(scale::even(11.9, 4), [0.0, 5.0, 10.0]);
    assert_eq!(scale::even(0.0, 4), [0.0]);
    assert_eq!(scale::decades(0.8, 600.0, 5), [1.0, 10.0, 100.0]);
    assert_eq!(scale::decades(40.0, 300.0, 5), [50.0, 100.0, 200.0]);
    for high in [1e-9, 0.3, 7.0, 1e12, 1e300] {
        let ticks = scale::even(high, 5);
        assert!(
            ticks.len() <= 7 && ticks.iter().all(|at| *at <= high * 1.01),
            "{high}"
        );
    }
    assert!(scale::decades(1e-11, 1e11, 5).len() <= 5);
}

#[test]
fn a_bar_that_leaves_the_picture_is_marked_and_does_not_stretch_it() {
    let rules = [Rule {
        name: "link".to_owned(),
        value: 12.0,
    }];
    let two = [bar("a", Some(10.0)), bar("local", Some(900.0))];
    let with = bars("t", &two, &rules, COLUMN).expect("a picture");
    assert_eq!(with.matches("<polygon").count(), 1);
    let without = bars("t", &two[..1], &rules, COLUMN).expect("a picture");
    assert!(!without.contains("<polygon"));
    assert!(with.contains("link 12.0 MB/s") && with.contains("a: words"));
}

#[test]
fn nothing_to_show_is_no_picture() {
    assert!(bars("t", &[], &[], COLUMN).is_none());
    assert!(bars("t", &[bar("a", Some(0.0))], &[], COLUMN).is_none());
    assert!(strips("t", &[], None, COLUMN).is_none());
    assert!(lines("t", &[], 1.0, PAGE).is_none());
}

#[test]
fn a_title_is_escaped_and_a_long_name_cut() {
    let long = bar(&"x".repeat(500), Some(1.0));
    let svg = bars("<t>", &[long], &[], PHONE).expect("a picture");
    assert!(svg.contains("<title>&lt;t&gt;</title>"));
    assert!(!svg.contains(&"x".repeat(NAME_CHARS_MAX + 1)));
}
