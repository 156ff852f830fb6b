//! The members of an object, in their order.

use std::collections::HashSet;
use std::{slice, vec};

/// Members by name; names are unique.
///
/// Looking up a name walks over all members. So large objects are made by `collect`, which is linear, and
/// not by repeated [`insert`](Map::insert).
#[derive(Clone, Debug)]
pub(crate) struct Map<V>(Vec<Member<V>>);

type Member<V> = (String, V);

impl<V> Default for Map<V> {
    fn default() -> Self {
        Map(Vec::new())
    }
}

impl<V> Map<V> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn get(&self, name: &str) -> Option<&V> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        self.0.iter_mut().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Replaces a member in its place, or appends it if it is new.
    pub(crate) fn insert(&mut self, name: String, value: V) {
        match self.get_mut(&name) {
            Some(place) => *place = value,
            None => self.0.push((name, value)),
        }
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<V> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    pub(crate) fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &String> {
        self.iter().map(|(name, _)| name)
    }

    fn sorted(&self) -> Vec<&Member<V>> {
        let mut members: Vec<_> = self.0.iter().collect();
        members.sort_unstable_by_key(|(name, _)| name.as_str());
        members
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &V)> {
        self.into_iter()
    }
}

/// Ignores the order of members. Tests of an answer's order compare its text.
impl<V: PartialEq> PartialEq for Map<V> {
    fn eq(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}

/// Up to this number of members, comparing each with each is faster than a set of their names.
const FEW: usize = 16;

/// Of several members with the same name, the last one is kept.
impl<V> FromIterator<Member<V>> for Map<V> {
    fn from_iter<I: IntoIterator<Item = Member<V>>>(members: I) -> Self {
        let mut members: Vec<_> = members.into_iter().collect();
        if members.len() <= FEW {
            let mut at = 0;
            while let Some((name, _)) = members.get(at) {
                match members.iter().skip(at + 1).any(|(later, _)| later == name) {
                    true => drop(members.remove(at)),
                    false => at += 1,
                }
            }
        } else {
            let mut seen = HashSet::with_capacity(members.len());
            let is_last: Vec<bool> =
                members.iter().rev().map(|(name, _)| seen.insert(name.as_str())).collect();
            let mut is_last = is_last.into_iter().rev();
            members.retain(|_| is_last.next().unwrap_or(true));
        }
        members.shrink_to_fit();
        Map(members)
    }
}

impl<V> IntoIterator for Map<V> {
    type Item = Member<V>;
    type IntoIter = vec::IntoIter<Member<V>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, V> IntoIterator for &'a Map<V> {
    type Item = (&'a String, &'a V);
    type IntoIter = std::iter::Map<slice::Iter<'a, Member<V>>, fn(&'a Member<V>) -> Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

#[cfg(test)]
mod tests {
    use crate::json::{Map, Value, json};

    #[test]
    fn a_replaced_member_keeps_its_place() {
        let mut map = Map::from_iter([("b".to_owned(), json!(1)), ("a".to_owned(), json!(2))]);

        map.insert("b".into(), json!(3));
        map.insert("c".into(), json!(4));
        map.remove("a");

        assert_eq!(Value::Object(map).to_string(), r#"{"b":3,"c":4}"#);
    }

    #[test]
    fn of_two_members_with_one_name_the_last_one_counts() {
        let members =
            ["a", "b", "a"].into_iter().zip(1..).map(|(name, n): (_, u32)| (name.to_owned(), n.into()));

        let map: Map = members.collect();

        assert_eq!(Value::Object(map).to_string(), r#"{"b":2,"a":3}"#);
    }

    #[test]
    fn an_object_with_very_many_members_is_read_quickly() {
        let text: String = (0..150_000).map(|n| format!("\"{n:x}\":0,")).collect();
        let text = format!("{{{text}\"0\":1}}");

        let begin = std::time::Instant::now();
        let value = crate::json::read_any(&text).unwrap();

        assert_eq!((value["0"].as_u64(), value["1"].as_u64()), (Some(1), Some(0)));
        assert!(
            begin.elapsed().as_secs() < 20,
            "comparing each with each takes minutes: {:?}",
            begin.elapsed()
        );
    }
}
