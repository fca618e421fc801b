//! Names in braces: `train-{000..146}.tar` stands for 147 names, `{a,b}.tar` for two.

/// Names that one pattern may stand for.
const MOST: usize = 1 << 20;

/// Whether a pattern counts, as `{000..146}` does.
pub(super) fn count(pattern: &str) -> bool {
    let mut rest = pattern;
    while let Some((_, inside, behind)) = split(rest) {
        if range(inside).is_some() {
            return true;
        }
        rest = behind;
    }
    false
}

/// All names that a pattern stands for, in order.
///
/// # Errors
/// When there are too many.
pub(super) fn expand(pattern: &str) -> Result<Vec<String>, String> {
    let Some((before, inside, behind)) = split(pattern) else {
        return Ok(vec![pattern.to_owned()]);
    };
    let rest = expand(behind)?;
    let many = || format!("it stands for more than {MOST} names");
    let choices: Vec<String> = match range(inside) {
        Some(Range { first, last, width }) => {
            let numbers = first.abs_diff(last).saturating_add(1);
            if numbers > MOST as u64 {
                return Err(many());
            }
            let number = |step| if first <= last { first + step } else { first - step };
            (0..numbers).map(|step| format!("{:0width$}", number(step))).collect()
        }
        None => inside.split(',').map(str::to_owned).collect(),
    };
    if choices.len().saturating_mul(rest.len()) > MOST {
        return Err(many());
    }
    let name = |choice: &String, end: &String| format!("{before}{choice}{end}");
    Ok(choices.iter().flat_map(|choice| rest.iter().map(move |end| name(choice, end))).collect())
}

/// What stands before the first braces, in them, and behind them.
fn split(pattern: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = pattern.split_once('{')?;
    let (inside, behind) = rest.split_once('}')?;
    Some((before, inside, behind))
}

struct Range {
    first: u64,
    last: u64,
    width: usize,
}

/// `000..146`; as a shell does it, zeros in front of either number set the width.
fn range(inside: &str) -> Option<Range> {
    let (first, last) = inside.split_once("..")?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    let padded = [first, last].iter().any(|text| text.len() > 1 && text.starts_with('0'));
    let width = if padded { first.len().max(last.len()) } else { 1 };
    Some(Range { first: first.parse().ok()?, last: last.parse().ok()?, width })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_choices_are_written_out() {
        let all = |pattern| expand(pattern).unwrap();
        assert_eq!(all("a-{008..011}.tar"), ["a-008.tar", "a-009.tar", "a-010.tar", "a-011.tar"]);
        assert_eq!(all("{2..0}"), ["2", "1", "0"]);
        assert_eq!(all("{9..10}"), ["9", "10"]);
        assert_eq!(all("{a,b}{0..1}"), ["a0", "a1", "b0", "b1"]);
        assert_eq!(all("plain"), ["plain"]);
        assert_eq!(all("un{closed"), ["un{closed"]);
        assert!(count("x/{00..10}.tar") && !count("x/{a,b}.tar") && !count("{..}"));
        assert!(count("{a,b}/{0..1}") && !count("{-1..3}"));
        for many in ["{0..99999999999}", "{0..1023}{0..1024}", "{0..18446744073709551615}"] {
            assert!(expand(many).unwrap_err().contains("more than"), "{many}");
        }
    }
}
