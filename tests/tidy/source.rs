//! Rust source as tokens with line numbers: enough to find imports, functions, tests and words, and no more.
//!
//! Comments and the contents of literals never become tokens, so that a word in a comment is not mistaken for code.

/// A piece of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Word(String),
    Mark(char),
    /// A string literal with its contents, as written.
    Text(String),
    /// A number, a character or a lifetime: of no interest.
    Other,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub piece: Piece,
    /// From 1.
    pub line: usize,
}

impl Token {
    pub fn is_word(&self, word: &str) -> bool {
        matches!(&self.piece, Piece::Word(found) if found == word)
    }
    pub fn is_mark(&self, mark: char) -> bool {
        self.piece == Piece::Mark(mark)
    }
    pub fn word(&self) -> Option<&str> {
        match &self.piece {
            Piece::Word(word) => Some(word),
            Piece::Mark(_) | Piece::Text(_) | Piece::Other => None,
        }
    }
}

/// Cuts source text into tokens.
pub fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader { chars: text.chars().collect(), at: 0, line: 1, tokens: Vec::new() };
    while reader.at < reader.chars.len() {
        reader.step();
    }
    reader.tokens
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
    tokens: Vec<Token>,
}

impl Reader {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn bump(&mut self) -> char {
        let here = self.peek(0);
        if here == '\n' {
            self.line += 1;
        }
        self.at += 1;
        here
    }

    fn push(&mut self, piece: Piece, line: usize) {
        self.tokens.push(Token { piece, line });
    }

    fn step(&mut self) {
        let (line, here, next) = (self.line, self.peek(0), self.peek(1));
        if here == '/' && next == '/' {
            while self.at < self.chars.len() && self.peek(0) != '\n' {
                self.bump();
            }
        } else if here == '/' && next == '*' {
            self.block_comment();
        } else if here == '"' {
            self.string();
        } else if here == '\'' {
            self.character_or_lifetime();
        } else if here.is_alphabetic() || here == '_' {
            self.word();
        } else if here.is_ascii_digit() {
            while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
                self.bump();
            }
            self.push(Piece::Other, line);
        } else {
            self.bump();
            if !here.is_whitespace() {
                self.push(Piece::Mark(here), line);
            }
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0usize;
        while self.at < self.chars.len() {
            let pair = (self.peek(0), self.peek(1));
            if pair == ('/', '*') {
                depth += 1;
                self.bump();
            } else if pair == ('*', '/') {
                depth -= 1;
                self.bump();
            }
            self.bump();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        let line = self.line;
        self.bump();
        let mut contents = String::new();
        while self.at < self.chars.len() && self.peek(0) != '"' {
            if self.peek(0) == '\\' {
                contents.push(self.bump());
            }
            contents.push(self.bump());
        }
        self.bump();
        self.push(Piece::Text(contents), line);
    }

    /// `r"…"`, `br#"…"#` and their like; the reader stands at the first `#` or `"`.
    fn raw_string(&mut self, line: usize) {
        let mut hashes = 0;
        while self.peek(0) == '#' {
            hashes += 1;
            self.bump();
        }
        self.bump();
        let mut contents = String::new();
        while self.at < self.chars.len() {
            if self.peek(0) == '"' && (1..=hashes).all(|n| self.peek(n) == '#') {
                (0..=hashes).for_each(|_| {
                    self.bump();
                });
                break;
            }
            contents.push(self.bump());
        }
        self.push(Piece::Text(contents), line);
    }

    fn character_or_lifetime(&mut self) {
        let line = self.line;
        self.bump();
        if self.peek(0) == '\\' {
            self.bump();
            self.bump();
            while self.at < self.chars.len() && self.peek(0) != '\'' {
                self.bump();
            }
            self.bump();
        } else if self.peek(1) == '\'' {
            self.bump();
            self.bump();
        } else {
            while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
                self.bump();
            }
        }
        self.push(Piece::Other, line);
    }

    fn word(&mut self) {
        let line = self.line;
        let mut word = String::new();
        while self.peek(0).is_alphanumeric() || self.peek(0) == '_' {
            word.push(self.bump());
        }
        let raw = matches!(word.as_str(), "r" | "br" | "cr");
        let mut hashes = 0;
        while self.peek(hashes) == '#' {
            hashes += 1;
        }
        if raw && self.peek(hashes) == '"' {
            self.raw_string(line);
        } else if word == "r" && self.peek(0) == '#' {
            self.bump();
            self.word();
        } else if matches!(word.as_str(), "b" | "c") && self.peek(0) == '"' {
            self.string();
        } else if word == "b" && self.peek(0) == '\'' {
            self.character_or_lifetime();
        } else {
            self.push(Piece::Word(word), line);
        }
    }
}

/// Index of the mark that closes the bracket at `open`, or of the last token when it is never closed.
pub fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.piece {
            Piece::Mark('{' | '(' | '[') => depth += 1,
            Piece::Mark('}' | ')' | ']') => depth = depth.saturating_sub(1),
            Piece::Mark(_) | Piece::Word(_) | Piece::Text(_) | Piece::Other => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len() - 1
}

/// Where the item that starts at `start` has its body, or its closing semicolon.
fn body_or_end(tokens: &[Token], start: usize) -> Option<usize> {
    let mut index = start;
    while let Some(token) = tokens.get(index) {
        match token.piece {
            Piece::Mark('{' | ';') => return Some(index),
            Piece::Mark('(' | '[') => index = closing(tokens, index),
            Piece::Mark(_) | Piece::Word(_) | Piece::Text(_) | Piece::Other => {}
        }
        index += 1;
    }
    None
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub line: usize,
    /// From the line of `fn` to the closing brace, both counted.
    pub lines: usize,
}

pub fn functions(tokens: &[Token]) -> Vec<Function> {
    let mut found = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        let Some(name) = tokens.get(index + 1).and_then(Token::word) else { continue };
        if !token.is_word("fn") {
            continue;
        }
        let Some(body) = body_or_end(tokens, index + 2) else { continue };
        if tokens[body].is_mark('{') {
            let end = tokens[closing(tokens, body)].line;
            found.push(Function { name: name.to_owned(), line: token.line, lines: end - token.line + 1 });
        }
    }
    found
}

/// What `#[cfg(test)]` covers in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TestCode {
    /// Inclusive ranges of tokens.
    pub spans: Vec<(usize, usize)>,
    /// Modules that are test code in files of their own.
    pub modules: Vec<TestModule>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct TestModule {
    pub name: String,
    /// Of a `#[path = "…"]`, from the folder of the declaring file.
    pub path: Option<String>,
}

impl TestCode {
    pub fn covers(&self, index: usize) -> bool {
        self.spans.iter().any(|(from, to)| (*from..=*to).contains(&index))
    }
}

pub fn test_code(tokens: &[Token]) -> TestCode {
    let mut found = TestCode::default();
    for index in 0..tokens.len() {
        if !(tokens[index].is_mark('#') && tokens.get(index + 1).is_some_and(|t| t.is_mark('['))) {
            continue;
        }
        let end = closing(tokens, index + 1);
        if !is_test_attribute(&tokens[index + 2..end]) {
            continue;
        }
        let Some(body) = body_or_end(tokens, after_attributes(tokens, end + 1)) else { continue };
        if tokens[body].is_mark('{') {
            found.spans.push((index, closing(tokens, body)));
        } else if let Some(module) = declared_module(&tokens[index..body]) {
            found.modules.push(module);
        } else {
            found.spans.push((index, body));
        }
    }
    found
}

fn is_test_attribute(attribute: &[Token]) -> bool {
    let has = |word: &str| attribute.iter().any(|token| token.is_word(word));
    match attribute {
        [only] => only.is_word("test"),
        _ => attribute[0].is_word("cfg") && has("test") && !has("not") && !has("any"),
    }
}

fn after_attributes(tokens: &[Token], mut index: usize) -> usize {
    while tokens.get(index).is_some_and(|t| t.is_mark('#')) {
        index = closing(tokens, index + 1) + 1;
    }
    index
}

fn declared_module(item: &[Token]) -> Option<TestModule> {
    let at = item.iter().position(|token| token.is_word("mod"))?;
    let name = item.get(at + 1)?.word()?.to_owned();
    let path = item.windows(3).find_map(|three| match &three[2].piece {
        Piece::Text(path) if three[0].is_word("path") && three[1].is_mark('=') => Some(path.clone()),
        Piece::Text(_) | Piece::Word(_) | Piece::Mark(_) | Piece::Other => None,
    });
    Some(TestModule { name, path })
}

#[cfg(test)]
mod samples {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        tokens(text).iter().filter_map(Token::word).map(str::to_owned).collect()
    }

    #[test]
    fn comments_and_literals_hold_no_words() {
        let text = "a /* b /* c */ d */ \"e \\\" f\" r#\"g \" h\"# b\"i\" 'j' '\\'' '{' // k\nl<'m>";
        assert_eq!(words(text), ["a", "l"]);
    }

    #[test]
    fn raw_words_and_lines_are_kept() {
        let found = tokens("r#type\n\n\"x\ny\" z");
        assert_eq!(found[0], Token { piece: Piece::Word("type".into()), line: 1 });
        assert_eq!(found[1], Token { piece: Piece::Text("x\ny".into()), line: 3 });
        assert_eq!(found[2], Token { piece: Piece::Word("z".into()), line: 4 });
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let text = "fn a(x: [u8; 2])\nwhere X: Y,\n{\n  let b = '}';\n}\ntrait T { fn c(); }\nfn d() {}";
        let found = functions(&tokens(text));
        let shapes: Vec<(&str, usize, usize)> = found.iter().map(|f| (f.name.as_str(), f.line, f.lines)).collect();
        assert_eq!(shapes, [("a", 1, 5), ("d", 7, 1)]);
    }

    #[test]
    fn test_modules_in_place_and_in_files_are_found() {
        let text = "fn a() {}\n#[cfg(test)]\n#[path = \"x.rs\"]\nmod far;\n#[cfg(all(test, unix))] mod near { fn b() {} }\n\
                    #[cfg(not(test))] mod live {}\n#[cfg(any(test, feature = \"faults\"))] mod both {}\n#[test] fn c() {}";
        let tokens = tokens(text);
        let found = test_code(&tokens);
        assert_eq!(found.modules, [TestModule { name: "far".into(), path: Some("x.rs".into()) }]);
        let covered: Vec<&str> = tokens
            .iter()
            .enumerate()
            .filter(|(index, token)| found.covers(*index) && token.word().is_some_and(|w| w.len() == 1))
            .filter_map(|(_, token)| token.word())
            .collect();
        assert_eq!(covered, ["b", "c"]);
    }
}
