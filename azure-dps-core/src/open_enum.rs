//! Open sets of words: the words that this crate knows are variants, every other word is kept unchanged.
//! The macro [`open_enum!`] writes the enum and its traits; the declaration of each enum documents its words.

use std::fmt;

/// A word for which this crate has no variant, exactly as received.
///
/// It cannot be built outside this crate: use `From<&str>` of the enum, which picks the known variant if
/// there is one, and read it with `as_str()` of the enum.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UnknownWord(String);

impl UnknownWord {
    pub(crate) fn new(word: String) -> Self {
        Self(word)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Declares an open enum: `pub enum Name { Variant = "word", … }`.
macro_rules! open_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )+
            #[doc(hidden)]
            Unknown($crate::open_enum::UnknownWord),
        }

        impl $name {
            /// The word on the wire, also when this crate does not know it.
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $word, )+
                    Self::Unknown(word) => word.as_str(),
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $( $word => Self::$variant, )+
                    _ => Self::Unknown($crate::open_enum::UnknownWord::new(word.to_owned())),
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $( $word => Self::$variant, )+
                    _ => Self::Unknown($crate::open_enum::UnknownWord::new(word)),
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).map(Self::from)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use open_enum;

#[cfg(test)]
#[allow(unreachable_pub, reason = "the macro declares public enums")]
mod tests {
    open_enum! {
        /// Two colours.
        pub enum Colour {
            /// Red.
            Red = "red",
            /// Deep blue.
            DeepBlue = "deepBlue",
        }
    }

    #[test]
    fn known_word_becomes_its_variant_and_comes_back() {
        let colour: Colour = serde_json::from_str("\"deepBlue\"").unwrap();
        assert_eq!(colour, Colour::DeepBlue);
        assert_eq!(serde_json::to_string(&colour).unwrap(), "\"deepBlue\"");
        assert_eq!(Colour::from("red"), Colour::from("red".to_owned()));
    }

    #[test]
    fn unknown_word_survives() {
        let colour: Colour = serde_json::from_str("\"Mauve\"").unwrap();
        assert_eq!(colour.as_str(), "Mauve");
        assert_eq!(colour.to_string(), "Mauve");
        assert_eq!(serde_json::to_string(&colour).unwrap(), "\"Mauve\"");
        assert_eq!(format!("{colour:?}"), "Unknown(\"Mauve\")");
    }

    #[test]
    fn case_matters() {
        assert_ne!(Colour::from("RED"), Colour::Red);
    }
}
