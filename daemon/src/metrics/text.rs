//! The text format of Prometheus, version 0.0.4.

use super::names::Metric;
use std::fmt::Write;

/// A metric's value. Counters stay whole: beyond 2^53 a float would stand still.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Any number.
    Real(f64),
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which metric.
    pub metric: &'static Metric,
    /// Values of its labels, in the metric's order.
    pub labels: Vec<String>,
    /// The value.
    pub value: Value,
}

/// The page for `samples`; samples of one metric must stand together.
pub fn page(samples: &[Sample]) -> String {
    let mut page = String::new();
    let mut before = None;
    for sample in samples {
        let metric = sample.metric;
        if before != Some(metric.name) {
            before = Some(metric.name);
            // Writing to a string cannot fail.
            let _ = writeln!(page, "# HELP {} {}", metric.name, metric.help);
            let _ = writeln!(page, "# TYPE {} {}", metric.name, metric.kind.name());
        }
        page.push_str(metric.name);
        write_labels(&mut page, sample);
        let _ = match sample.value {
            Value::Whole(n) => writeln!(page, " {n}"),
            Value::Real(n) => writeln!(page, " {n}"),
        };
    }
    page
}

fn write_labels(page: &mut String, sample: &Sample) {
    let pairs = sample.metric.labels.iter().zip(&sample.labels);
    for (i, (name, value)) in pairs.enumerate() {
        let open = if i == 0 { "{" } else { "," };
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = write!(page, "{open}{name}=\"{value}\"");
    }
    if !sample.labels.is_empty() {
        page.push('}');
    }
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    #[test]
    fn a_page_groups_metrics_and_escapes_labels() {
        let request = |kind: &str, n| Sample {
            metric: &names::MOUNT_REMOTE_REQUESTS,
            labels: vec![kind.to_owned()],
            value: Value::Whole(n),
        };
        let page = page(&[
            request("read", u64::MAX),
            request("a\"b\\c\nd", 0),
            Sample {
                metric: &names::LINK_THROUGHPUT,
                labels: vec![],
                value: Value::Real(0.5),
            },
        ]);
        assert_eq!(
            page,
            "# HELP wormhole_mount_remote_requests_total Requests to the host, by kind; those of kind renewal nobody waited for.\n\
             # TYPE wormhole_mount_remote_requests_total counter\n\
             wormhole_mount_remote_requests_total{kind=\"read\"} 18446744073709551615\n\
             wormhole_mount_remote_requests_total{kind=\"a\\\"b\\\\c\\nd\"} 0\n\
             # HELP wormhole_link_throughput_bytes_per_second Highest rate at which payload arrived lately.\n\
             # TYPE wormhole_link_throughput_bytes_per_second gauge\n\
             wormhole_link_throughput_bytes_per_second 0.5\n"
        );
    }
}
