//! Elements of HTML and SVG, well-formed by construction: every element that is opened is closed, every text escaped.

use std::fmt::{self, Display, Write as _};

/// Elements of HTML without content.
const VOID: [&str; 4] = ["meta", "br", "hr", "col"];

/// An element with its attributes and what is in it.
#[derive(Clone, Debug)]
pub struct Element {
    name: &'static str,
    attributes: String,
    inner: String,
}

/// Begins an element.
#[must_use]
pub fn el(name: &'static str) -> Element {
    Element { name, attributes: String::new(), inner: String::new() }
}

impl Element {
    /// With an attribute.
    #[must_use]
    pub fn at(mut self, name: &str, value: impl Display) -> Self {
        write!(self.attributes, " {name}=\"{}\"", Escaped(value)).expect("writing to a string cannot fail");
        self
    }

    #[must_use]
    pub fn class(self, name: &str) -> Self {
        self.at("class", name)
    }

    /// With a text at the end of its content.
    #[must_use]
    pub fn text(mut self, text: impl Display) -> Self {
        write!(self.inner, "{}", Escaped(text)).expect("writing to a string cannot fail");
        self
    }

    /// With an element at the end of its content.
    #[must_use]
    pub fn with(mut self, child: impl Into<Option<Element>>) -> Self {
        if let Some(child) = child.into() {
            write!(self.inner, "{child}").expect("writing to a string cannot fail");
        }
        self
    }

    /// With elements at the end of its content.
    #[must_use]
    pub fn with_all(self, children: impl IntoIterator<Item = Element>) -> Self {
        children.into_iter().fold(self, Element::with)
    }

    /// With a style sheet as its content, which is not escaped: one of this program.
    #[must_use]
    pub fn sheet(mut self, sheet: &'static str) -> Self {
        assert!(!sheet.contains("</"), "a style sheet of our own ends no element");
        self.inner.push_str(sheet);
        self
    }
}

impl Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, attributes, inner } = self;
        match VOID.contains(name) {
            true => write!(f, "<{name}{attributes}>"),
            false => write!(f, "<{name}{attributes}>{inner}</{name}>"),
        }
    }
}

/// A text in which nothing is markup.
struct Escaped<T>(T);

impl<T: Display> Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.to_string().chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Control characters have no place in a page.
                letter if letter.is_control() && letter != '\n' => f.write_char('\u{fffd}')?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_attributes_are_never_markup() {
        let element = el("p").at("title", "a\"><script>").text("<b> & 'c'\u{1}");
        let wanted = "<p title=\"a&quot;&gt;&lt;script&gt;\">&lt;b&gt; &amp; &#39;c&#39;\u{fffd}</p>";
        assert_eq!(element.to_string(), wanted);
    }

    #[test]
    fn elements_nest_and_close() {
        let list = el("ul").with_all([1, 2].map(|n| el("li").text(n))).with(None).with(el("br"));
        assert_eq!(list.to_string(), "<ul><li>1</li><li>2</li><br></ul>");
    }
}
