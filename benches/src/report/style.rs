//! How the page and its charts look: colours for light and dark, type, spacing.
//!
//! Charts are drawn with stand-in colours ([`Ink`]), which become CSS variables, so that one picture
//! serves both themes. Peers have the colours of Okabe and Ito (*Color Universal Design*, 2008), which
//! people with any kind of colour vision tell apart; a little darker on white. Nothing is told by
//! colour alone: bars and dots stand beside their peer's name, lines have marks and names.

use super::{LIMIT, SUBJECT};
use plotters::style::RGBColor;

/// What something in a chart is painted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Text,
    Faint,
    Grid,
    Rule,
    /// A peer, by its place in [`PEERS`].
    Peer(u8),
}

/// Colours of peers; the first is Wormhole's, the last the limit's.
const PEERS: [(&str, &str); 8] = [
    ("#0072b2", "#56b4e9"),
    ("#c77700", "#e69f00"),
    ("#d55e00", "#ff8a3d"),
    ("#00805d", "#1fc79a"),
    ("#b5578c", "#e08fbb"),
    ("#5b6ee1", "#9aa7ff"),
    ("#8a7d00", "#f0e442"),
    ("#6b7280", "#9aa3b2"),
];

impl Ink {
    /// The stand-in that charts are drawn with.
    pub(super) fn stand_in(self) -> RGBColor {
        RGBColor(1, 2, self.number())
    }

    fn number(self) -> u8 {
        match self {
            Self::Text => 0,
            Self::Faint => 1,
            Self::Grid => 2,
            Self::Rule => 3,
            Self::Peer(at) => 16 + at,
        }
    }

    fn variable(self) -> String {
        match self {
            Self::Text => "--ink".to_owned(),
            Self::Faint => "--faint".to_owned(),
            Self::Grid => "--grid".to_owned(),
            Self::Rule => "--rule".to_owned(),
            Self::Peer(at) => format!("--peer{at}"),
        }
    }

    fn all() -> impl Iterator<Item = Self> {
        let peers = (0..8).map(Self::Peer);
        [Self::Text, Self::Faint, Self::Grid, Self::Rule]
            .into_iter()
            .chain(peers)
    }

    /// The ink of the peer `name`, which stands at `at` among all peers of a page.
    pub(super) fn of_peer(name: &str, at: usize) -> Self {
        match name {
            SUBJECT => Self::Peer(0),
            LIMIT => Self::Peer(7),
            // Those between take turns.
            _ => Self::Peer(u8::try_from(at.saturating_sub(1) % 6 + 1).unwrap_or(1)),
        }
    }
}

/// `svg` with its stand-ins replaced by CSS variables. Text in it has no quotes left, so only
/// attributes can look like this.
pub(super) fn themed(svg: &str) -> String {
    let mut text = svg.replace(" font-family=\"sans-serif\"", "");
    for ink in Ink::all() {
        let colour = format!("\"#0102{:02X}\"", ink.number());
        text = text.replace(&colour, &format!("\"var({})\"", ink.variable()));
    }
    text
}

/// The style sheet.
pub(super) fn sheet() -> String {
    let variables = |pick: fn(&(&'static str, &'static str)) -> &'static str| -> String {
        let each = PEERS.iter().enumerate();
        each.map(|(at, pair)| format!("--peer{at}:{};", pick(pair)))
            .collect()
    };
    SHEET
        .replace("/*light*/", &variables(|pair| pair.0))
        .replace("/*dark*/", &variables(|pair| pair.1))
}

const SHEET: &str = r#"
:root{color-scheme:light dark;--paper:#fbfbfa;--card:#fff;--ink:#1c2126;--faint:#59626c;--grid:#e3e6e9;--rule:#39424c;--good:#00664a;--goodbg:#e4f4ee;--bad:#a33c00;--badbg:#fdeee4;/*light*/}
@media (prefers-color-scheme:dark){:root{--paper:#14171a;--card:#1c2024;--ink:#e8eaed;--faint:#a3acb6;--grid:#31373d;--rule:#cfd5db;--good:#6fdcb8;--goodbg:#17322a;--bad:#ffb287;--badbg:#3a2518;/*dark*/}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.6 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;-webkit-text-size-adjust:100%}
main,header,footer{max-width:76rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:3rem}
h1{font-size:2rem;line-height:1.2;letter-spacing:-.02em;margin:0 0 .5rem}
h2{font-size:1.5rem;line-height:1.25;letter-spacing:-.01em;margin:0 0 .25rem}
h3{font-size:1.1rem;margin:2.5rem 0 .75rem}
h4{font-size:1rem;margin:0 0 .5rem}
p{margin:0 0 .75rem;max-width:46rem}
section.run{margin:3.5rem 0 0;padding-top:2rem;border-top:1px solid var(--grid)}
.faint,figcaption span,caption,.note{color:var(--faint)}
.note{font-size:.875rem}
.lead{font-size:1.2rem;line-height:1.5;margin:1rem 0}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;margin:1rem 0 0;padding:0}
a{color:var(--peer0)}
.sides,.charts{display:grid;gap:1.25rem;grid-template-columns:repeat(2,minmax(0,1fr));align-items:start}
.side{border-radius:.75rem;padding:1.1rem 1.25rem}
.side.ahead{background:var(--goodbg)}.side.ahead h4{color:var(--good)}
.side.behind{background:var(--badbg)}.side.behind h4{color:var(--bad)}
.side ul{margin:0;padding-left:1.1rem}.side li{margin:.3rem 0}
figure{margin:0;background:var(--card);border:1px solid var(--grid);border-radius:.75rem;padding:1.1rem 1.25rem;min-width:0}
figure.full{grid-column:1/-1}
figcaption{margin-bottom:.6rem;line-height:1.4}figcaption strong{display:block}figcaption span{font-size:.875rem}
svg{display:block;width:100%;height:auto;font-family:inherit;font-variant-numeric:tabular-nums}
.narrow{display:none}
.scroll{overflow-x:auto;border:1px solid var(--grid);border-radius:.75rem;background:var(--card)}
.scroll:focus-visible,a:focus-visible,summary:focus-visible{outline:2px solid var(--peer0);outline-offset:2px}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:.7rem .9rem 0;font-size:.875rem}
th,td{text-align:left;padding:.55rem .9rem;border-top:1px solid var(--grid);vertical-align:top}
thead th{border-top:0;color:var(--faint);font-weight:600;white-space:nowrap}
tbody th{font-weight:600;white-space:nowrap}
table.grid tbody th{position:sticky;left:0;background:var(--card)}
table.grid td{white-space:nowrap}
td small{display:block;color:var(--faint);font-size:.8rem}
td.best{font-weight:650}td.best .value{border-bottom:2px solid var(--peer0)}
td.mishap{color:var(--bad)}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.35rem 1.5rem;margin:0}
dt{color:var(--faint)}dd{margin:0;overflow-wrap:anywhere}
pre{overflow-x:auto;background:var(--card);border:1px solid var(--grid);border-radius:.5rem;padding:.8rem 1rem;font-size:.875rem;white-space:pre-wrap;overflow-wrap:anywhere}
ul.warnings{background:var(--badbg);border-radius:.75rem;padding:1rem 1.25rem 1rem 2.25rem;margin:1rem 0}
summary{cursor:pointer;font-weight:600}
footer{padding-top:2rem;padding-bottom:3rem}
@media (max-width:46rem){
main,header,footer{padding-left:1rem;padding-right:1rem}
header{padding-top:1.75rem}h1{font-size:1.6rem}h2{font-size:1.3rem}.lead{font-size:1.075rem}
.sides,.charts{grid-template-columns:minmax(0,1fr)}
figure{padding:.9rem .9rem}
dl{grid-template-columns:minmax(0,1fr);gap:0}dd{margin-bottom:.6rem}
}
@media (max-width:46rem){.wide{display:none}.narrow{display:block}}
@media print{body{background:#fff}figure,.side{break-inside:avoid}}
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ink_has_a_value_in_both_themes() {
        let sheet = sheet();
        for ink in Ink::all() {
            let definition = format!("{}:#", ink.variable());
            assert_eq!(sheet.matches(&definition).count(), 2, "{definition}");
        }
    }

    #[test]
    fn stand_ins_become_variables_and_nothing_else_does() {
        let svg = "<text font-family=\"sans-serif\" fill=\"#010200\">#010200</text><rect fill=\"#010210\"/>";
        assert_eq!(
            themed(svg),
            "<text fill=\"var(--ink)\">#010200</text><rect fill=\"var(--peer0)\"/>"
        );
    }

    #[test]
    fn peers_keep_their_colours() {
        assert_eq!(Ink::of_peer("wormhole", 3), Ink::Peer(0));
        assert_eq!(Ink::of_peer("local", 0), Ink::Peer(7));
        for at in 0..20 {
            let Ink::Peer(colour) = Ink::of_peer("x", at) else {
                panic!("a peer");
            };
            assert!((1..7).contains(&colour));
        }
    }
}
