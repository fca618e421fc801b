//! The report: one HTML file that needs nothing else.

use std::fmt::Write;

use super::plot::{Line, Mark, svg};
use super::summary::{Summary, Tried};
use super::{bd_rate, correlation, texts};

/// What quality is measured by, and how.
type Measure<'a> = (&'a str, Box<dyn Fn(&Tried) -> Option<f64> + 'a>);

const STYLE: &str = "
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: 0.2rem 0.7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
svg { width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: #333; stroke: none; }
svg .x { text-anchor: middle; }
svg .y { text-anchor: end; }
svg .grid { stroke: #e4e4e4; }
svg polyline { fill: none; stroke-width: 1.5; }
.note { color: #666; }
";

impl Summary {
    /// The report as an HTML page with this title: curves of accuracy and of metrics over bytes, how metrics go with
    /// accuracy, how many bytes codecs save against each other, and every point.
    pub fn html(&self, title: &str) -> String {
        let mut out = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{0}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n",
            escaped(title)
        );
        let _ = writeln!(
            out,
            "<p>{} records of {} bytes before they are encoded on average, {} settings of {} codecs. Bytes are those stored, \
             container included.</p>",
            self.records,
            number(self.raw_bytes.mean(), 0),
            self.settings().len(),
            self.codecs().len()
        );
        if self.codecs().contains(&texts::ZSTD_DICTIONARY) {
            out.push_str(
                "<p class=\"note\">The dictionary is not among the bytes of records, and was trained on the first of \
                 them: if these are few, others will be larger.</p>\n",
            );
        }
        self.accuracy(&mut out);
        self.likeness(&mut out);
        self.correlations(&mut out);
        self.rates(&mut out);
        self.every_point(&mut out);
        out.push_str("</body>\n</html>\n");
        out
    }

    fn scored(&self) -> bool {
        self.score.count() > 0
    }

    /// Whether these are texts that all came back.
    fn loses_nothing(&self) -> bool {
        let whole = |tried: &Tried| texts::is_of_texts(&tried.codec) && tried.failed == 0;
        self.settings().iter().all(whole)
    }

    fn accuracy(&self, out: &mut String) {
        if !self.scored() {
            return;
        }
        let score = self.score.mean();
        if self.loses_nothing() {
            let _ = writeln!(
                out,
                "<h2>Accuracy (Q_infer)</h2>\n<p>Records score {}, and what comes back is the original: no setting \
                 loses anything.</p>",
                percent(score)
            );
            return;
        }
        let _ = writeln!(
            out,
            "<h2>Accuracy over bytes (Q_infer)</h2>\n<p>The model was trained on originals. On these it scores \
             {}, the share of right answers or what its task measures; the curves show what it is on records that come back from a codec. The loss is \
             paired, record by record; intervals hold with confidence 95 %, at any number of records.</p>",
            percent(score)
        );
        let mark = |tried: &Tried| {
            let loss = tried.loss()?;
            // No accuracy is beyond 0 and 1, whatever the loss may be.
            let accuracy = |loss: f64| (score - loss).clamp(0.0, 1.0);
            let [y, low, high] = [loss.mean, loss.high, loss.low].map(accuracy);
            Some(Mark { x: tried.bytes.mean(), y, low, high })
        };
        self.plot(out, "score", mark);
    }

    fn likeness(&self, out: &mut String) {
        for metric in self.metrics() {
            let _ = writeln!(out, "<h2>{} over bytes</h2>", escaped(name(metric)));
            let mark = |tried: &Tried| {
                let y = tried.metrics.get(metric)?.mean();
                Some(Mark { x: tried.bytes.mean(), y, low: y, high: y })
            };
            self.plot(out, name(metric), mark);
        }
    }

    fn plot(&self, out: &mut String, title: &str, mark: impl Fn(&Tried) -> Option<Mark>) {
        let lines = self.codecs().into_iter().map(|codec| {
            let of = self.settings().iter().filter(|tried| tried.codec == codec);
            let mut marks: Vec<Mark> = of.filter_map(&mark).collect();
            marks.sort_by(|one, other| one.x.total_cmp(&other.x));
            Line { name: codec, marks }
        });
        let lines: Vec<Line<'_>> = lines.collect();
        match svg(&lines, "bytes of a record", title) {
            Some(plot) => out.push_str(&plot),
            None => out.push_str("<p class=\"note\">No setting has a finite value.</p>\n"),
        }
    }

    fn correlations(&self, out: &mut String) {
        if !self.scored() || self.metrics().is_empty() {
            return;
        }
        out.push_str(
            "<h2>How metrics go with accuracy</h2>\n<p>Pearson's correlation of the mean of a metric with accuracy, \
             over settings with a finite mean. Settings of one codec are not independent, so that the intervals are \
             too narrow rather than too wide.</p>\n<table>\n<tr><th>metric</th><th>r</th><th>95 % interval</th>\
             <th>settings</th></tr>\n",
        );
        for metric in self.metrics() {
            let pair =
                |tried: &Tried| Some((tried.metrics.get(metric)?.mean(), tried.score.mean()));
            let pairs: Vec<(f64, f64)> = self.settings().iter().filter_map(pair).collect();
            let (r, interval, count) = match correlation(&pairs) {
                Some(found) => {
                    let [low, high] = found.interval.map(|end| number(end, 2));
                    (number(found.r, 2), format!("{low} to {high}"), found.count.to_string())
                }
                None => ("-".to_owned(), "too few settings differ".to_owned(), "-".to_owned()),
            };
            let metric = escaped(name(metric));
            let _ = writeln!(
                out,
                "<tr><td>{metric}</td><td>{r}</td><td>{interval}</td><td>{count}</td></tr>"
            );
        }
        out.push_str("</table>\n");
    }

    /// The codec that others are compared with, and its curves.
    fn rates(&self, out: &mut String) {
        if self.loses_nothing() {
            return;
        }
        let codecs = self.codecs();
        let several = |codec: &&&str| {
            self.settings().iter().filter(|tried| tried.codec == **codec).count() > 1
        };
        let mut ladders: Vec<&str> = codecs.iter().filter(several).copied().collect();
        // What people know best is what others are compared with.
        ladders.sort_by_key(|codec| *codec != "jpeg");
        let Some((reference, others)) =
            ladders.split_first().filter(|(_, others)| !others.is_empty())
        else {
            return;
        };
        let _ = writeln!(
            out,
            "<h2>Bytes at equal quality, against {0}</h2>\n<p>Bjontegaard's rate over the range of quality that both \
             reach: below 0, the codec needs fewer bytes than {0}.</p>\n<table>\n<tr><th>codec</th>{1}</tr>",
            escaped(reference),
            self.measures()
                .iter()
                .map(|m| format!("<th>{}</th>", escaped(m.0)))
                .collect::<String>()
        );
        for codec in others {
            let _ = write!(out, "<tr><td>{}</td>", escaped(codec));
            for (_, quality) in self.measures() {
                let curve = |codec: &str| -> Vec<(f64, f64)> {
                    let of = self.settings().iter().filter(|tried| tried.codec == codec);
                    of.filter_map(|tried| Some((tried.bytes.mean(), quality(tried)?))).collect()
                };
                let rate = bd_rate(&curve(reference), &curve(codec));
                let rate = rate
                    .map_or("no common range".to_owned(), |rate| format!("{:+.1} %", 100.0 * rate));
                let _ = write!(out, "<td>{rate}</td>");
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</table>\n");
    }

    /// What quality can be measured by; more is better of all of them.
    fn measures(&self) -> Vec<Measure<'_>> {
        let mut measures: Vec<Measure<'_>> = Vec::new();
        if self.scored() {
            measures.push(("right answers", Box::new(|tried: &Tried| Some(tried.score.mean()))));
        }
        for metric in self.metrics() {
            // A distance grows as quality falls.
            let distance =
                ["log_spectral_distance", super::plan::FEATURE_DISTANCE].contains(&metric);
            let sign = if distance { -1.0 } else { 1.0 };
            let of = move |tried: &Tried| Some(sign * tried.metrics.get(metric)?.mean());
            measures.push((name(metric), Box::new(of)));
        }
        measures
    }

    fn every_point(&self, out: &mut String) {
        let timed = self.settings().iter().any(|tried| tried.encode_seconds.count() > 0);
        let mut heads = vec!["setting".to_owned(), "bytes".to_owned(), "times smaller".to_owned()];
        if self.scored() {
            heads.push("loss (Q_infer)".to_owned());
            heads.push("95 % interval".to_owned());
        }
        heads.extend(self.metrics().into_iter().map(|metric| escaped(name(metric))));
        if timed {
            heads.extend(["encode, ms of CPU".to_owned(), "decode, ms of CPU".to_owned()]);
        }
        heads.push("cannot hold".to_owned());
        let _ = writeln!(
            out,
            "<h2>Every point</h2>\n<table>\n<tr><th>{}</th></tr>",
            heads.join("</th><th>")
        );
        for tried in self.settings() {
            let bytes = tried.bytes.mean();
            let times = number(self.raw_bytes.mean() / bytes, 1);
            let mut cells = vec![escaped(&tried.name()), number(bytes, 0), times];
            if self.scored() {
                let loss = tried.loss();
                cells.push(loss.map_or("-".to_owned(), |loss| percent(loss.mean)));
                let interval = loss.map(|l| format!("{} to {}", percent(l.low), percent(l.high)));
                cells.push(interval.unwrap_or_else(|| "-".to_owned()));
            }
            let metric =
                |metric: &str| tried.metrics.get(metric).map_or(f64::NAN, |mean| mean.mean());
            cells.extend(self.metrics().into_iter().map(|name| number(metric(name), 3)));
            if timed {
                let milliseconds = [&tried.encode_seconds, &tried.decode_seconds];
                cells.extend(milliseconds.map(|mean| number(1e3 * mean.mean(), 3)));
            }
            cells.push(tried.failed.to_string());
            let _ = writeln!(out, "<tr><td>{}</td></tr>", cells.join("</td><td>"));
        }
        out.push_str("</table>\n");
    }
}

/// A metric as people call it.
fn name(metric: &str) -> &str {
    match metric {
        "psnr" => "PSNR (dB)",
        "ssim" => "SSIM",
        "ms_ssim" => "MS-SSIM",
        "ssimulacra2" => "SSIMULACRA2",
        "si_sdr" => "SI-SDR (dB)",
        "log_spectral_distance" => "log-spectral distance (dB)",
        super::plan::FEATURE_DISTANCE => "feature distance",
        other => other,
    }
}

fn number(value: f64, digits: usize) -> String {
    match value {
        _ if value.is_nan() => "-".to_owned(),
        _ if value == f64::INFINITY => "\u{221e}".to_owned(),
        _ if value == f64::NEG_INFINITY => "-\u{221e}".to_owned(),
        _ => format!("{value:.digits$}"),
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

/// Text that HTML takes for text.
pub(super) fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
        out
    })
}
