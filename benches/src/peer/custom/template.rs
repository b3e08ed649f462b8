//! A command with placeholders: an array of arguments, never a line for a shell.

use super::CustomError;
use std::process::Command;

/// What a command may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placeholder {
    /// The folder that is served.
    Share,
    /// The address of the host's end.
    Host,
    /// A TCP and UDP port that was free on the host's end when the server was started.
    Port,
    /// Where to mount.
    Mountpoint,
    /// Where server or client keep what they write.
    Folder,
}

impl Placeholder {
    const ALL: [(&'static str, Self); 5] = [
        ("share", Self::Share),
        ("host", Self::Host),
        ("port", Self::Port),
        ("mountpoint", Self::Mountpoint),
        ("folder", Self::Folder),
    ];

    /// All but the mount point, which a server does not know.
    pub(super) const OF_SERVER: &[Self] = &[Self::Share, Self::Host, Self::Port, Self::Folder];
    /// All.
    pub(super) const OF_MOUNT: &[Self] = &[
        Self::Share,
        Self::Host,
        Self::Port,
        Self::Mountpoint,
        Self::Folder,
    ];

    fn name(self) -> &'static str {
        let named = Self::ALL
            .iter()
            .find(|(_, placeholder)| *placeholder == self);
        named.map_or("", |(name, _)| name)
    }
}

/// What stands for the placeholders.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    pub(super) share: String,
    pub(super) host: String,
    pub(super) port: String,
    pub(super) mountpoint: String,
    pub(super) folder: String,
}

impl Values {
    fn of(&self, placeholder: Placeholder) -> &str {
        match placeholder {
            Placeholder::Share => &self.share,
            Placeholder::Host => &self.host,
            Placeholder::Port => &self.port,
            Placeholder::Mountpoint => &self.mountpoint,
            Placeholder::Folder => &self.folder,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Placeholder),
}

/// A command, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    program: Vec<Piece>,
    arguments: Vec<Vec<Piece>>,
}

impl Template {
    /// Understands `words`, the command `key` of the peer `peer`, which may ask for `known`.
    pub(super) fn parse(
        peer: &str,
        key: &str,
        words: &[String],
        known: &[Placeholder],
    ) -> Result<Self, CustomError> {
        let wrong = |problem| CustomError::Command {
            peer: peer.to_owned(),
            key: key.to_owned(),
            problem,
        };
        let words: Result<Vec<_>, _> = words.iter().map(|word| pieces(word, known)).collect();
        let mut words = words.map_err(wrong)?.into_iter();
        let Some(program) = words.next().filter(|program| !program.is_empty()) else {
            return Err(wrong("names no program".to_owned()));
        };
        Ok(Self {
            program,
            arguments: words.collect(),
        })
    }

    /// Whether it asks for `placeholder`.
    pub(super) fn asks_for(&self, placeholder: Placeholder) -> bool {
        let pieces = self.program.iter().chain(self.arguments.iter().flatten());
        pieces
            .into_iter()
            .any(|piece| *piece == Piece::Value(placeholder))
    }

    /// The program, with `values` put in.
    pub(super) fn program(&self, values: &Values) -> String {
        filled(&self.program, values)
    }

    /// The command, with `values` put in.
    pub(super) fn command(&self, values: &Values) -> Command {
        let mut command = Command::new(self.program(values));
        command.args(self.arguments.iter().map(|word| filled(word, values)));
        command
    }
}

fn filled(word: &[Piece], values: &Values) -> String {
    let pieces = word.iter().map(|piece| match piece {
        Piece::Text(text) => text.as_str(),
        Piece::Value(placeholder) => values.of(*placeholder),
    });
    pieces.collect()
}

fn pieces(word: &str, known: &[Placeholder]) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut text, mut rest) = (Vec::new(), String::new(), word);
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        text.push_str(before);
        if brace.starts_with("{{") || brace.starts_with("}}") {
            text.push_str(&brace[..1]);
            rest = &brace[2..];
            continue;
        }
        let end = brace.find('}').filter(|end| *end > 0);
        let Some(end) = end else {
            return Err(format!(
                "{word:?} has a single brace; write {{{{ or }}}} for one"
            ));
        };
        pieces.push(Piece::Text(std::mem::take(&mut text)));
        pieces.push(Piece::Value(placeholder(&brace[1..end], known)?));
        rest = &brace[end + 1..];
    }
    text.push_str(rest);
    pieces.push(Piece::Text(text));
    pieces.retain(|piece| *piece != Piece::Text(String::new()));
    Ok(pieces)
}

fn placeholder(name: &str, known: &[Placeholder]) -> Result<Placeholder, String> {
    let found = Placeholder::ALL.iter().find(|(other, _)| *other == name);
    if let Some((_, placeholder)) = found.filter(|(_, found)| known.contains(found)) {
        return Ok(*placeholder);
    }
    let known: Vec<String> = known.iter().map(|p| format!("{{{}}}", p.name())).collect();
    let known = match known.as_slice() {
        [] => "there are none here".to_owned(),
        known => format!("there are {}", known.join(" ")),
    };
    Err(format!("there is no placeholder {{{name}}}; {known}"))
}

#[cfg(test)]
mod tests {
    use super::{Placeholder, Template, Values};

    fn template(words: &[&str]) -> Result<Template, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Template::parse("p", "mount", &words, Placeholder::OF_MOUNT).map_err(|e| e.to_string())
    }

    #[test]
    fn values_are_put_in_and_double_braces_stay_single() {
        let words = ["run", "{host}:{share}{{x}}", "", "{mountpoint}"];
        let template = template(&words).expect("a command");
        let values = Values {
            share: "/a b;c".to_owned(),
            host: "10.0.0.1".to_owned(),
            mountpoint: "/m".to_owned(),
            ..Values::default()
        };
        let command = template.command(&values);
        let arguments: Vec<_> = command.get_args().collect();
        assert_eq!(command.get_program(), "run");
        assert_eq!(arguments, ["10.0.0.1:/a b;c{x}", "", "/m"]);
        assert!(template.asks_for(Placeholder::Share) && !template.asks_for(Placeholder::Port));
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (words, expected) in [
            (&["run", "{hots}"][..], "there is no placeholder {hots}"),
            (&["run", "a{b"][..], "\"a{b\" has a single brace"),
            (&["run", "a}b"][..], "\"a}b\" has a single brace"),
            (&[][..], "names no program"),
            (&[""][..], "names no program"),
        ] {
            let error = template(words).expect_err("nonsense");
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("peer p: mount: "), "{error}");
        }
    }

    #[test]
    fn a_server_knows_no_mount_point() {
        let words = ["run".to_owned(), "{mountpoint}".to_owned()];
        assert!(Template::parse("p", "serve", &words, Placeholder::OF_SERVER).is_err());
    }
}
