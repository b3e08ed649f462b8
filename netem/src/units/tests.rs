//! What is read, what is refused, and that printing reads back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use super::*;
use proptest::prelude::*;

fn refused<T: FromStr<Err = UnitError> + fmt::Debug>(texts: &[&str]) {
    for text in texts {
        let read = text.parse::<T>();
        assert!(read.is_err(), "{text:?} is read as {read:?}");
    }
}

fn error<T: FromStr<Err = UnitError> + fmt::Debug>(text: &str) -> String {
    text.parse::<T>().unwrap_err().to_string()
}

#[test]
fn spans_are_read() {
    for (text, nanos) in [
        ("80ms", 80_000_000),
        ("1.5s", 1_500_000_000),
        ("250us", 250_000),
        ("0.001us", 1),
        ("0ms", 0),
        ("1.000000000s", 1_000_000_000),
        ("18446744073.709551615s", u64::MAX),
    ] {
        assert_eq!(
            text.parse(),
            Ok(Span(Duration::from_nanos(nanos))),
            "{text}"
        );
    }
}

#[test]
fn rates_are_read() {
    for (text, bits) in [
        ("50mbit", 50_000_000),
        ("1gbit", 1_000_000_000),
        ("800kbit", 800_000),
        ("9600bit", 9_600),
        ("2.5gbit", 2_500_000_000),
    ] {
        assert_eq!(text.parse(), Ok(Rate(bits)), "{text}");
    }
}

#[test]
fn sizes_are_read() {
    for (text, bytes) in [
        ("256k", 256 << 10),
        ("64KiB", 64 << 10),
        ("64K", 64 << 10),
        ("1M", 1 << 20),
        ("3MiB", 3 << 20),
        ("1G", 1 << 30),
        ("0.5GiB", 1 << 29),
        ("65536", 65_536),
    ] {
        assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
    }
}

#[test]
fn shares_and_bursts_are_read() {
    for (text, ppm) in [
        ("0.5%", 5_000),
        ("0%", 0),
        ("100%", 1_000_000),
        ("0.0001%", 1),
    ] {
        assert_eq!(text.parse(), Ok(Share(ppm)), "{text}");
    }
    let three = Burst {
        enter: Share(10_000),
        leave: Share(200_000),
        bad_loss: Share(500_000),
        good_loss: Share(0),
    };
    assert_eq!("1%,20%,50%".parse(), Ok(three));
    let four = Burst {
        good_loss: Share(1_000),
        ..three
    };
    assert_eq!("1%,20%,50%,0.1%".parse(), Ok(four));
    assert_eq!(
        [three, four].map(|b| b.to_string()),
        ["1%,20%,50%", "1%,20%,50%,0.1%"]
    );
}

#[test]
fn nothing_else_is_read() {
    refused::<Span>(&[
        "",
        "80",
        "ms",
        "80 ms",
        " 80ms",
        "80ms ",
        "80ms\n",
        "-80ms",
        "+80ms",
        "8e1ms",
        "80MS",
        "80m",
        ".5s",
        "5.s",
        "1.5.0s",
        "1,5s",
        "80ms80ms",
        "0x10ms",
        "1_000ms",
        "80nanos",
        "\u{0664}ms",
        ".s",
        "1..5s",
        "inf",
        "NaNs",
    ]);
    refused::<Rate>(&[
        "", "50", "50Mbit", "50mbps", "50 mbit", "50mbit/s", "-1mbit", "50m", "1tbit", "1e3kbit",
        "bit",
    ]);
    refused::<Size>(&[
        "", "k", "64kB", "64KB", "64MB", "64kib", "1m", "1T", "64 k", "-1", "+1", "1e6", "64b",
        "1,024",
    ]);
    refused::<Share>(&[
        "",
        "1",
        "%",
        "0.5",
        "0.5 %",
        "-1%",
        "+1%",
        "1e1%",
        "50%%",
        "5\u{2030}",
    ]);
    refused::<Burst>(&[
        "",
        ",",
        "1%",
        "1%,2%",
        "1%,2%,",
        "1%,2%,3%,",
        "1%,2%,3%,4%,5%",
        "1%, 2%, 3%",
        "1,2,3",
        "1%,2%,101%",
        "1%;2%;3%",
    ]);
}

#[test]
fn too_much_and_too_fine_are_refused() {
    refused::<Span>(&[
        "18446744073.709551616s",
        "99999999999999999999us",
        "18446744074s",
    ]);
    refused::<Rate>(&["18446744074gbit", "99999999999999999999bit"]);
    refused::<Size>(&["17179869184G", "18446744073709551616"]);
    refused::<Share>(&["100.0001%", "101%", "4294967296%", "99999999999999999999%"]);
    refused::<Span>(&["0.0001us", "0.00000000000000000000000000000000000000001s"]);
    refused::<Rate>(&["0.5bit", "0.0001kbit"]);
    refused::<Size>(&["1.5", "0.1k"]);
    refused::<Share>(&["0.00001%"]);
}

#[test]
fn errors_name_the_text_and_what_is_expected() {
    assert_eq!(
        error::<Span>("80"),
        "\"80\" cannot be read: expected a span of time in us, ms or s, such as 80ms or 1.5s"
    );
    assert_eq!(
        error::<Rate>("99999999999gbit"),
        "\"99999999999gbit\" is too much: expected bits per second in bit, kbit, mbit or gbit, such as 50mbit"
    );
    assert_eq!(
        error::<Size>("64\u{1b}kB"),
        "\"64\\u{1b}kB\" cannot be read: expected bytes, or multiples of 1024 in k, M or G, such as 65536, 256k or 1M"
    );
    assert_eq!(
        error::<Share>("0.00001%"),
        "\"0.00001%\" is too fine: expected a percentage from 0% to 100%, in steps of 0.0001%, such as 0.5%"
    );
    assert_eq!(
        error::<Burst>("1%,2%"),
        "\"1%,2%\" cannot be read: expected three or four percentages as ENTER,LEAVE,BADLOSS[,GOODLOSS], such as 1%,20%,50%"
    );
}

#[test]
fn printing_takes_the_largest_unit_that_fits() {
    let spans = [0, 1, 250_000, 80_000_000, 1_500_000_000, 60_000_000_000];
    assert_eq!(
        spans.map(|nanos| Span(Duration::from_nanos(nanos)).to_string()),
        ["0ms", "0.001us", "250us", "80ms", "1.5s", "60s"]
    );
    assert_eq!(
        [0, 9_600, 50_000_000, 1_050_000_000].map(|bits| Rate(bits).to_string()),
        ["0bit", "9.6kbit", "50mbit", "1.05gbit"]
    );
    assert_eq!(
        [0, 1_514, 65_536, 3 << 19, 1 << 30].map(|bytes| Size(bytes).to_string()),
        ["0", "1514", "64KiB", "1536KiB", "1GiB"]
    );
    assert_eq!(
        [0, 1, 5_000, 1_000_000].map(|ppm| Share(ppm).to_string()),
        ["0%", "0.0001%", "0.5%", "100%"]
    );
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(number: u64, ppm in 0_u32..=1_000_000, shift in 0_u32..64) {
        let number = number >> shift;
        let span = Span(Duration::from_nanos(number));
        prop_assert_eq!(span.to_string().parse(), Ok(span));
        prop_assert_eq!(Rate(number).to_string().parse(), Ok(Rate(number)));
        prop_assert_eq!(Size(number).to_string().parse(), Ok(Size(number)));
        prop_assert_eq!(Share(ppm).to_string().parse(), Ok(Share(ppm)));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[0-9.kmgbitKMGB%,us-]{0,24}|.*") {
        let _ = text.parse::<Span>();
        let _ = text.parse::<Rate>();
        let _ = text.parse::<Size>();
        let _ = text.parse::<Share>();
        let _ = text.parse::<Burst>();
    }
}
