//! The imports of one source file: every path that begins with `crate`, `super`, `self`, the crate's own name
//! or a child module, wherever it appears in code. Tests do not count.
//!
//! The file is read as tokens, not as items, so that paths inside macros count and comments and strings do
//! not.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A path in code, as segments; the first one is the root, [`LIBRARY`] or that of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub(super) path: Vec<String>,
    /// Counted from 1.
    pub(super) line: usize,
}

/// What one file has.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) imports: Vec<Import>,
    /// Modules with a body in this file, from the root of the crate.
    pub(super) inline: Vec<Vec<String>>,
    /// Modules of tests that have files: neither they nor what lies below them is looked at.
    pub(super) tests: Vec<Vec<String>>,
}

/// Reads the file that is the module `module` of a crate. `children` are the modules that lie in files below
/// it.
///
/// # Errors
/// The text is not made of Rust tokens.
pub(super) fn read(
    text: &str,
    module: &[String],
    children: &[String],
    own_name: &str,
) -> Result<Source, String> {
    let tokens: TokenStream = text.parse().map_err(|error| format!("is not Rust: {error}"))?;
    let mut reader = Reader { children, own_name, file: module.to_vec(), source: Source::default() };
    reader.scan(tokens, module);
    Ok(reader.source)
}

struct Reader<'a> {
    children: &'a [String],
    own_name: &'a str,
    file: Vec<String>,
    source: Source,
}

impl Reader<'_> {
    fn scan(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest = tokens.as_slice();
        let mut colons = 0;
        while let Some((token, after)) = rest.split_first() {
            if let Some(item) = test_item(rest) {
                self.note_test_module(item, module);
                rest = after_item(item);
                continue;
            }
            match token {
                TokenTree::Ident(word) if word == "pub" && is_visibility(after) => {
                    rest = after.get(1..).unwrap_or_default();
                    continue;
                }
                TokenTree::Ident(word) if word == "mod" => {
                    if let [TokenTree::Ident(name), TokenTree::Group(body), further @ ..] = after {
                        let inner = joined(module, &name.to_string());
                        self.source.inline.push(inner.clone());
                        self.scan(body.stream(), &inner);
                        rest = further;
                        continue;
                    }
                }
                TokenTree::Ident(word) if colons < 2 && behind_colons(after).is_some() => {
                    if let Some(base) = self.base(&word.to_string(), module) {
                        let line = word.span().start().line;
                        rest = self.path(base, after, module, line);
                        continue;
                    }
                }
                TokenTree::Group(group) => self.scan(group.stream(), module),
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
            // A word behind two of them continues a path and begins none.
            colons =
                if matches!(token, TokenTree::Punct(mark) if mark.as_char() == ':') { colons + 1 } else { 0 };
            rest = after;
        }
    }

    /// The module that the first word of a path names, or `None` when the path is not one of this crate.
    fn base(&self, word: &str, module: &[String]) -> Option<Vec<String>> {
        match word {
            "crate" => Some(module.iter().take(1).cloned().collect()),
            "self" => Some(module.to_vec()),
            "super" => Some(module.split_last().map_or_else(Vec::new, |(_, parent)| parent.to_vec())),
            _ if word == self.own_name => Some(vec![LIBRARY.to_owned()]),
            _ if module == self.file && self.children.iter().any(|child| child == word) => {
                Some(joined(module, word))
            }
            _ => None,
        }
    }

    /// Follows a path behind its first word; returns the tokens behind it.
    fn path<'t>(
        &mut self,
        mut path: Vec<String>,
        mut rest: &'t [TokenTree],
        module: &[String],
        line: usize,
    ) -> &'t [TokenTree] {
        while let Some(behind) = behind_colons(rest) {
            match behind.split_first() {
                Some((TokenTree::Ident(word), further)) => {
                    match word.to_string().as_str() {
                        "super" => {
                            path.pop();
                        }
                        "self" => {}
                        word => path.push(word.to_owned()),
                    }
                    rest = further;
                }
                Some((TokenTree::Group(group), further)) if group.delimiter() == Delimiter::Brace => {
                    self.branches(&path, group.stream(), module);
                    return further;
                }
                // A glob, or the parameters of a generic item.
                _ => {
                    rest = behind;
                    break;
                }
            }
        }
        self.source.imports.push(Import { path, line });
        rest
    }

    /// The branches of `path::{…}`.
    fn branches(&mut self, path: &[String], tokens: TokenStream, module: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for branch in tokens.split(|token| matches!(token, TokenTree::Punct(mark) if mark.as_char() == ',')) {
            let Some((first, rest)) = branch.split_first() else { continue };
            let line = first.span().start().line;
            match first {
                TokenTree::Ident(word) if word == "self" => {
                    self.source.imports.push(Import { path: path.to_vec(), line });
                }
                TokenTree::Ident(word) => {
                    self.path(joined(path, &word.to_string()), rest, module, line);
                }
                TokenTree::Group(group) => self.branches(path, group.stream(), module),
                TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.source.imports.push(Import { path: path.to_vec(), line });
                }
            }
        }
    }

    fn note_test_module(&mut self, item: &[TokenTree], module: &[String]) {
        let words = item.iter().position(|token| matches!(token, TokenTree::Ident(word) if word == "mod"));
        let name = words.and_then(|place| item.get(place + 1));
        if let (Some(TokenTree::Ident(name)), false) = (name, has_body(item)) {
            self.source.tests.push(joined(module, &name.to_string()));
        }
    }
}

/// The item behind `#[cfg(test)]`, with what follows it, if `tokens` begin with that attribute.
fn test_item(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), item @ ..] = tokens else { return None };
    let words = attribute.stream().to_string().replace(' ', "");
    (hash.as_char() == '#' && (words == "cfg(test)" || words.starts_with("cfg(all(test,"))).then_some(item)
}

/// What follows an item: it ends with a semicolon, or with the braces of its body.
fn after_item(item: &[TokenTree]) -> &[TokenTree] {
    let is_use = item.iter().take(4).any(|token| matches!(token, TokenTree::Ident(word) if word == "use"));
    let end = item.iter().position(|token| match token {
        TokenTree::Punct(mark) => mark.as_char() == ';',
        TokenTree::Group(group) => !is_use && group.delimiter() == Delimiter::Brace,
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    });
    end.and_then(|end| item.get(end + 1..)).unwrap_or_default()
}

fn has_body(item: &[TokenTree]) -> bool {
    let end = item.iter().find(|token| match token {
        TokenTree::Punct(mark) => mark.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Ident(_) | TokenTree::Literal(_) => false,
    });
    matches!(end, Some(TokenTree::Group(_)))
}

/// Whether `(crate)`, `(super)` or `(in …)` follows a `pub`: that says who may see an item and imports
/// nothing.
fn is_visibility(rest: &[TokenTree]) -> bool {
    let Some(TokenTree::Group(group)) = rest.first() else { return false };
    let first = group.stream().into_iter().next();
    group.delimiter() == Delimiter::Parenthesis
        && matches!(first, Some(TokenTree::Ident(word)) if ["crate", "super", "self", "in"].iter().any(|known| word == known))
}

/// What follows `::`, if `rest` begins with it.
fn behind_colons(rest: &[TokenTree]) -> Option<&[TokenTree]> {
    let [TokenTree::Punct(first), TokenTree::Punct(second), behind @ ..] = rest else { return None };
    let joint = first.as_char() == ':' && first.spacing() == Spacing::Joint;
    (joint && second.as_char() == ':').then_some(behind)
}

/// The root of the library, as the first segment of a path.
pub(super) const LIBRARY: &str = "lib";

fn joined(module: &[String], name: &str) -> Vec<String> {
    let mut path = module.to_vec();
    path.push(name.to_owned());
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The imports of a file that is `front::amqp`, with the child `sasl`.
    fn imports(text: &str) -> Vec<String> {
        let module = [LIBRARY, "front", "amqp"].map(str::to_owned);
        let source = read(text, &module, &["sasl".to_owned()], "emulator").unwrap();
        let within = |import: &Import| import.path.get(1..).unwrap_or_default().join("::");
        source.imports.iter().map(|import| format!("{}:{}", import.line, within(import))).collect()
    }

    #[test]
    fn each_way_to_name_a_module_is_an_import() {
        let forms = [
            ("use crate::service::Call;", "1:service::Call"),
            ("use super::Peer;", "1:front::Peer"),
            ("use super::super::clock;", "1:clock"),
            ("use self::sasl::Outcome;", "1:front::amqp::sasl::Outcome"),
            ("use sasl::Outcome;", "1:front::amqp::sasl::Outcome"),
            ("use crate::clock as time;", "1:clock"),
            ("use crate::clock::*;", "1:clock"),
            ("use emulator::clock;", "1:clock"),
            ("fn f() { crate::clock::text() }", "1:clock::text"),
            ("fn f() { sasl::answer() }", "1:front::amqp::sasl::answer"),
            ("fn f() { super::serve::<u8>() }", "1:front::serve"),
            ("fn f() -> Result<crate::refusal::Refusal> { g() }", "1:refusal::Refusal"),
            ("fn f() { json!({ \"a\": crate::clock::text() }) }", "1:clock::text"),
            ("macro_rules! m { () => { $crate::ids::next() } }", "1:ids::next"),
            ("mod inner {\n use super::super::Peer;\n}", "2:front::Peer"),
            ("impl From<super::Unread> for u8 {}", "1:front::Unread"),
        ];

        for (text, import) in forms {
            assert_eq!(imports(text), [import], "{text}");
        }
    }

    #[test]
    fn nested_braces_are_one_import_a_branch() {
        let text = "use crate::{\n clock,\n call::{self, answer::{Answer, Page}, kind::*},\n};";

        assert_eq!(
            imports(text),
            ["2:clock", "3:call", "3:call::answer::Answer", "3:call::answer::Page", "3:call::kind"]
        );
    }

    #[test]
    fn comments_strings_visibility_and_other_crates_are_no_imports() {
        let text = "//! [`crate::a`]\n/// [`crate::b`]\n// crate::c::d\npub(in crate::front) fn f(&self) { self.sasl(); \
                    other::sasl::g(); ::sasl::h(); \"crate::e::f\"; Self::k() }\npub(crate) struct S(pub(super) u8);";

        assert_eq!(imports(text), [""; 0]);
    }

    #[test]
    fn tests_do_not_count() {
        let text = "#[cfg(test)]\nuse crate::{a::b};\n#[cfg(all(test, feature = \"x\"))]\nmod tests { use crate::c::d; }\n\
                    #[cfg(test)]\nmod vectors;\nuse crate::kept::K;";
        let module = [LIBRARY, "front"].map(str::to_owned);

        let source = read(text, &module, &["vectors".to_owned()], "emulator").unwrap();

        assert_eq!(
            source.imports,
            [Import { path: vec![LIBRARY.into(), "kept".into(), "K".into()], line: 7 }]
        );
        assert_eq!(source.tests, [[LIBRARY, "front", "vectors"]]);
    }
}
