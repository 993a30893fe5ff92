//! The columns, kinds and bits of a trace, as a page for people who read it with other tools.

use std::fmt::Write as _;

use super::{
    columns::{COLUMNS, Type},
    words::{Kind, flag},
};

impl Type {
    /// As Arrow calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Moment => "timestamp\\[ns, UTC]",
            Self::I64 => "int64",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
            Self::Text => "string_view",
        }
    }
}

/// The page, in Markdown; observer/docs/trace.md has it too.
pub fn markdown() -> String {
    let mut page = String::from("## Columns\n\n| column | type | meaning |\n| --- | --- | --- |\n");
    // Writing to a string cannot fail.
    for column in COLUMNS {
        let _ = writeln!(page, "| `{}` | {} | {} |", column.name, column.holds.name(), column.doc);
    }
    page.push_str("\n## Kinds\n\n| `kind` | what the row says |\n| --- | --- |\n");
    for (_, name, doc) in Kind::ALL {
        let _ = writeln!(page, "| `{name}` | {doc} |");
    }
    page.push_str("\n## Flags\n\nBits of `flags`, by the kinds that have them.\n\n| bit | name | meaning |\n| --- | --- | --- |\n");
    for (bit, name, doc) in flag::ALL {
        let _ = writeln!(page, "| {bit} | `{}` | {doc} |", name.to_lowercase());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_it() {
        let documented = include_str!("../../docs/trace.md");
        assert!(documented.ends_with(&markdown()), "observer/docs/trace.md is to end with `observer export --schema`");
    }
}
