//! A page of docs/ as it is walked: prose, and commands with what has to come of each.
//!
//! In a block ```` ```console ```` a line that begins with `$ ` is a command, which goes on to the
//! end of its here-document or to its last line without a `\`; the lines below it are what it has
//! to say. In those, `…` is any text, and a line of its own any lines; how many spaces there are is
//! of no matter, for columns are as wide as their widest.

/// A part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A heading, without its marks.
    Heading(String),
    /// A line of prose, or of a block that is no command's.
    Prose(String),
    /// A command.
    Command(Command),
}

/// A command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// The number of its line, from 1.
    pub line: usize,
    /// What is typed.
    pub typed: String,
    /// What it has to say.
    pub said: Vec<String>,
}

/// The parts of a page, in order.
pub fn parts(page: &str) -> Vec<Part> {
    let (mut parts, mut console) = (Vec::new(), false);
    let mut lines = page.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line.starts_with("```") {
            console = line == "```console";
        } else if let (true, Some(typed)) = (console, line.strip_prefix("$ ")) {
            let mut command =
                Command { line: number + 1, typed: typed.to_owned(), said: Vec::new() };
            while !whole(&command.typed) {
                let (_, more) = lines.next().expect("a command that ends");
                command.typed = format!("{}\n{more}", command.typed);
            }
            while let Some((_, said)) =
                lines.next_if(|(_, line)| !line.starts_with("$ ") && !line.starts_with("```"))
            {
                command.said.push(said.to_owned());
            }
            // A blank line is there for the eye.
            while command.said.last().is_some_and(String::is_empty) {
                command.said.pop();
            }
            parts.push(Part::Command(command));
        } else if let Some(heading) = line.strip_prefix('#') {
            parts.push(Part::Heading(heading.trim_start_matches('#').trim().to_owned()));
        } else {
            parts.push(Part::Prose(line.to_owned()));
        }
    }
    parts
}

fn whole(typed: &str) -> bool {
    let last = typed.lines().next_back().unwrap_or_default();
    let document = typed
        .lines()
        .next()
        .is_some_and(|first| first.contains("<<EOF") || first.contains("<<'EOF'"));
    !last.ends_with('\\') && (!document || last == "EOF")
}

/// Whether lines are those that were expected.
pub fn fits(expected: &[String], said: &[&str]) -> bool {
    match (expected.split_first(), said.split_first()) {
        (None, None) => true,
        (Some((any, rest)), _) if any.trim() == "…" => {
            (0..=said.len()).any(|skipped| fits(rest, &said[skipped..]))
        }
        (Some((want, expected)), Some((have, said))) => same(want, have) && fits(expected, said),
        _ => false,
    }
}

fn same(want: &str, have: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (want, have) = (plain(want), plain(have));
    let mut pieces = want.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = have.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    for piece in pieces {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn commands_have_here_documents_continuations_and_what_they_say() {
    let page = "# Head\nWords.\n```yaml\n$ no command\n```\n```console\n$ a \\\n  b\nx\n\n$ c <<EOF\nd\nEOF\n```\n";
    let command = |line, typed: &str, said: &[&str]| {
        Part::Command(Command {
            line,
            typed: typed.into(),
            said: said.iter().map(|s| (*s).to_owned()).collect(),
        })
    };
    let want = [
        Part::Heading("Head".into()),
        Part::Prose("Words.".into()),
        Part::Prose("$ no command".into()),
        command(7, "a \\\n  b", &["x"]),
        command(11, "c <<EOF\nd\nEOF", &[]),
    ];
    assert_eq!(parts(page), want);
}

#[test]
fn what_was_said_fits_with_any_text_and_any_lines() {
    let lines = |text: &[&str]| text.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    for (expected, said, fit) in [
        (&["NAME  AGE", "fraud …s"][..], &["NAME    AGE", "fraud   12s"][..], true),
        (&["…", "end"], &["a", "b", "end"], true),
        (&["…"], &[], true),
        (&["a … c … e"], &["a b c d e"], true),
        (&["a … c … e"], &["a c e"], false),
        (&["a"], &["ab"], false),
        (&["a"], &["a", "b"], false),
    ] {
        assert_eq!(fits(&lines(expected), said), fit, "{expected:?} {said:?}");
    }
}
