//! Settings by name: one list for each kind of run, with each setting's range, unit and line of help. The program's flags, the options by name
//! of the C ABI and `docs/settings.md` are made of it; `model.toml` has the same names.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::Serialize;
use serde_json::{Map, Value};

/// One setting of a struct of settings.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// As in `model.toml`, with a dot where a table begins: `losses.direction`.
    pub name: &'static str,
    pub kind: Kind,
    /// What its number counts or measures; empty for what has no unit.
    pub unit: &'static str,
    /// One line, without a full stop.
    pub help: &'static str,
}

/// One row of a list, in the order of the columns.
pub(crate) const fn setting(name: &'static str, kind: Kind, unit: &'static str, help: &'static str) -> Setting {
    Setting { name, kind, unit, help }
}

/// What values a setting has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A whole number, these included.
    Count(u64, u64),
    /// Any number, these included.
    Within(f64, f64),
    /// Above the first, and at most the second.
    Above(f64, f64),
    /// At least the first, and below the second.
    Below(f64, f64),
    Flag,
    /// One of some names.
    Choice(&'static [&'static str]),
    /// A table that may be left out: `none`, or, where it is `complete` by itself, `default` for its own defaults.
    Group {
        complete: bool,
    },
}

/// No limit but the type's.
pub const MANY: u64 = u64::MAX;
/// No limit but that the number is finite.
pub const ANY: f64 = f64::MAX;

impl Kind {
    /// What is right, as it stands behind "must be".
    pub fn wanted(&self) -> String {
        match *self {
            Kind::Count(0, MANY) => "a whole number".into(),
            Kind::Count(least, MANY) => format!("a whole number of {least} or more"),
            Kind::Count(least, most) => format!("a whole number from {least} to {most}"),
            Kind::Within(least, most) if least == -ANY && most == ANY => "a finite number".into(),
            Kind::Within(least, most) if most == ANY => format!("a number of {least} or more"),
            Kind::Within(least, most) => format!("in [{least}, {most}]"),
            Kind::Above(least, most) if most == ANY => format!("a number above {least}"),
            Kind::Above(least, most) => format!("in ({least}, {most}]"),
            Kind::Below(least, most) => format!("in [{least}, {most})"),
            Kind::Flag => "true or false".into(),
            Kind::Choice(names) => format!("one of {}", names.join(", ")),
            Kind::Group { complete: true } => "none or default".into(),
            Kind::Group { complete: false } => "none, or a table, whose fields are settings of their own".into(),
        }
    }

    fn holds(&self, value: &Value) -> bool {
        let number = value.as_f64();
        match *self {
            Kind::Count(least, most) => value.as_u64().is_some_and(|n| (least..=most).contains(&n)),
            Kind::Within(least, most) => number.is_some_and(|x| (least..=most).contains(&x)),
            Kind::Above(least, most) => number.is_some_and(|x| x > least && x <= most),
            Kind::Below(least, most) => number.is_some_and(|x| (least..most).contains(&x)),
            Kind::Flag => value.is_boolean(),
            Kind::Choice(names) => value.as_str().is_some_and(|name| names.contains(&name)),
            Kind::Group { .. } => value.is_null() || value.is_object(),
        }
    }

    /// A value from its text. Errors say what would be right.
    pub fn parse(&self, text: &str) -> std::result::Result<Value, String> {
        let text = text.trim();
        let value = match self {
            Kind::Count(..) => text.parse::<u64>().ok().map(Value::from),
            // What overflows is infinite, which JSON does not have.
            Kind::Within(..) | Kind::Above(..) | Kind::Below(..) => text.parse::<f64>().ok().map(Value::from),
            Kind::Flag => text.parse::<bool>().ok().map(Value::from),
            Kind::Choice(_) => Some(Value::from(text)),
            Kind::Group { complete } => match text {
                "none" => Some(Value::Null),
                "default" if *complete => Some(Value::Object(Map::new())),
                _ => None,
            },
        };
        value.filter(|value| self.holds(value)).ok_or_else(|| format!("'{text}': must be {}", self.wanted()))
    }
}

/// A struct of settings with its list. Its JSON has the names of the list.
pub trait Listed: Serialize + DeserializeOwned {
    const SETTINGS: &'static [Setting];

    /// What a single setting cannot tell; `InvalidArgument` names it.
    fn check_together(&self) -> Result<()> {
        Ok(())
    }
}

/// The setting of that name. Errors: `InvalidArgument` with the names that are most like it.
pub fn find<T: Listed>(name: &str) -> Result<&'static Setting> {
    T::SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| {
        let last = name.rsplit('.').next().unwrap_or(name);
        let like: Vec<&str> = T::SETTINGS.iter().map(|s| s.name).filter(|known| known.contains(last) && !last.is_empty()).take(4).collect();
        let all = || T::SETTINGS.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
        let known = if like.is_empty() { format!("there are {}", all()) } else { format!("did you mean {}?", like.join(" or ")) };
        Error::argument(name, format!("is no setting; {known}"))
    })
}

/// `settings` with some of its settings changed, in any order; they are checked by [`check`], not here.
///
/// Errors: `InvalidArgument` names the setting whose value is of another type, or that belongs to a table which lacks another.
pub fn with<T: Listed>(settings: &T, changes: impl IntoIterator<Item = (&'static Setting, Value)>) -> Result<T> {
    let mut all = json(settings)?;
    let mut last = None;
    let (groups, rest): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(setting, _)| matches!(setting.kind, Kind::Group { .. }));
    for (setting, value) in groups.into_iter().chain(rest) {
        let mut place = &mut all;
        for part in setting.name.split('.') {
            if place.is_null() {
                // A table that was left out has its own defaults for the rest.
                *place = Value::Object(Map::new());
            }
            let Some(table) = place.as_object_mut() else { return Err(Error::argument(setting.name, "is no table")) };
            place = table.entry(part).or_insert(Value::Null);
        }
        *place = value;
        last = Some(setting.name);
    }
    serde_json::from_value(all).map_err(|e| Error::argument(last.unwrap_or("settings"), e.to_string()))
}

/// [`with`] for one setting, from the text of its value.
pub fn set<T: Listed>(settings: &T, name: &str, text: &str) -> Result<T> {
    let setting = find::<T>(name)?;
    let value = setting.kind.parse(text).map_err(|message| Error::argument(name, message))?;
    with(settings, [(setting, value)])
}

/// `InvalidArgument` names the first setting that is out of range.
pub fn check<T: Listed>(settings: &T) -> Result<()> {
    let all = json(settings)?;
    for setting in T::SETTINGS {
        let Some(value) = get(&all, setting.name) else { continue };
        if !setting.kind.holds(value) {
            // JSON has no NaN and no infinity.
            let is = if value.is_null() { "not a finite number".into() } else { shown(value) };
            return Err(Error::argument(setting.name, format!("is {is}, must be {}", setting.kind.wanted())));
        }
    }
    settings.check_together()
}

/// The value of a setting as text; `none` for one of a table that is left out.
pub fn value<T: Listed>(settings: &T, name: &str) -> Result<String> {
    let all = json(settings)?;
    Ok(get(&all, name).map_or("none".into(), |value| if value.is_object() { "default".into() } else { shown(value) }))
}

fn json<T: Listed>(settings: &T) -> Result<Value> {
    serde_json::to_value(settings).map_err(|e| Error::Internal(e.to_string()))
}

/// None within a table that is left out.
fn get<'a>(all: &'a Value, name: &str) -> Option<&'a Value> {
    name.split('.').try_fold(all, |place, part| place.get(part))
}

/// As it was written: most numbers are f32, of which JSON's f64 shows digits that mean nothing.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".into(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(x) if number.is_f64() && f64::from(x as f32) == x => (x as f32).to_string(),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// The list as a table in Markdown, with the defaults of `settings`.
pub fn markdown<T: Listed>(settings: &T) -> Result<String> {
    let mut text = String::from("| name | value | default | what |\n|---|---|---|---|\n");
    for Setting { name, kind, unit, help } in T::SETTINGS {
        let unit = if unit.is_empty() { String::new() } else { format!(", {unit}") };
        text += &format!("| `{name}` | {}{unit} | {} | {help} |\n", kind.wanted(), value(settings, name)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{adapt, invert};
    use std::collections::BTreeSet;

    /// Names of what holds a number, a text or a flag, and of tables.
    fn names(value: &Value, before: &str, into: &mut BTreeSet<String>) {
        for (key, value) in value.as_object().unwrap() {
            let name = format!("{before}{key}");
            match value.is_object() {
                true => names(value, &format!("{name}."), into),
                false => _ = into.insert(name),
            }
        }
    }

    fn listed<T: Listed>(with_all_groups: &T) {
        let mut held = BTreeSet::new();
        names(&json(with_all_groups).unwrap(), "", &mut held);
        let known: BTreeSet<String> =
            T::SETTINGS.iter().filter(|s| !matches!(s.kind, Kind::Group { .. })).map(|s| s.name.to_string()).collect();
        assert_eq!(held, known);
        assert_eq!(T::SETTINGS.len(), T::SETTINGS.iter().map(|s| s.name).collect::<BTreeSet<_>>().len(), "a name stands there twice");
        check(with_all_groups).unwrap();
        for s in T::SETTINGS {
            assert!(!s.help.is_empty() && !s.help.ends_with('.') && !s.help.contains('\n'), "{}: {}", s.name, s.help);
        }
    }

    #[test]
    fn every_setting_is_listed_once() {
        listed(&invert::Settings::default());
        let auto = set(&adapt::Settings::default(), "auto_layers.k", "4").unwrap();
        listed(&set(&auto, "stop", "default").unwrap());
    }

    #[test]
    fn every_range_is_checked_at_its_ends() {
        fn ends<T: Listed>(settings: &T) {
            let refused = |s: &'static Setting, value: Value| {
                let message = match with(settings, [(s, value)]) {
                    Ok(changed) => check(&changed).unwrap_err().to_string(),
                    Err(e) => e.to_string(),
                };
                assert!(message.starts_with(s.name), "{}: {message}", s.name);
            };
            let taken = |s: &'static Setting, value: Value| check(&with(settings, [(s, value)]).unwrap()).unwrap();
            for s in T::SETTINGS {
                match s.kind {
                    Kind::Count(least, most) => {
                        taken(s, least.into());
                        if let Some(below) = least.checked_sub(1) {
                            refused(s, below.into());
                        }
                        if most != MANY {
                            taken(s, most.into());
                            refused(s, (most + 1).into());
                        }
                    }
                    Kind::Within(least, most) => {
                        if least != -ANY {
                            taken(s, least.into());
                            refused(s, (least - 0.001).into());
                        }
                        if most != ANY {
                            taken(s, most.into());
                            refused(s, (most + 0.001).into());
                        }
                        refused(s, Value::Null);
                    }
                    Kind::Above(least, _) => refused(s, least.into()),
                    Kind::Below(_, most) => refused(s, most.into()),
                    Kind::Choice(names) => {
                        names.iter().for_each(|name| taken(s, (*name).into()));
                        refused(s, "another".into());
                    }
                    Kind::Flag | Kind::Group { .. } => refused(s, 7.into()),
                }
            }
        }
        // A loss of its own keeps the others free to be 0.
        let settings = set(&adapt::Settings::default(), "stop", "default").unwrap();
        let settings = set(&set(&settings, "auto_layers.k", "3").unwrap(), "losses.global", "1").unwrap();
        ends(&adapt::Settings { losses: adapt::LossWeights { manifold: 1.0, ..settings.losses }, ..settings });
        ends(&invert::Settings::default());
    }

    #[test]
    fn not_finite_numbers_are_named() {
        for bad in [f32::NAN, f32::INFINITY] {
            let settings = adapt::Settings { floor: bad, ..Default::default() };
            assert_eq!(check(&settings).unwrap_err().to_string(), "floor: is not a finite number, must be a number of 0 or more");
        }
    }

    #[test]
    fn texts_become_settings() {
        let start = adapt::Settings::default();
        let s = set(&start, "losses.structure", " 400 ").unwrap();
        assert_eq!(s.losses.structure, 400.0);
        // A table that was left out gets its own defaults for the rest, and can be left out again.
        let stop = set(&s, "stop.pairing", "0.5").unwrap();
        assert_eq!(stop.stop, Some(adapt::StopRule { pairing: 0.5, ..Default::default() }));
        assert_eq!(set(&stop, "stop", "none").unwrap().stop, None);
        assert_eq!(value(&stop, "stop.pairing").unwrap(), "0.5");
        assert_eq!(value(&s, "stop.pairing").unwrap(), "none");
        for (name, text, message) in [
            ("losses.structur", "1", "losses.structur: is no setting; did you mean losses.structure or structure_floor"),
            ("pace", "1", "pace: is no setting; there are mode, "),
            ("steps", "-1", "steps: '-1': must be a whole number of 1 or more"),
            ("floor", "1e999", "floor: '1e999': must be a number of 0 or more"),
            ("noise", "yes", "noise: 'yes': must be true or false"),
            ("auto_layers", "default", "auto_layers: 'default': must be none, or a table"),
            ("phase", "tex", "phase: 'tex': must be one of convolutions, "),
        ] {
            let found = set(&start, name, text).unwrap_err().to_string();
            assert!(found.starts_with(message), "{found}");
        }
        // In any order; a table that lacks what it needs is refused in the end.
        let half = set(&start, "auto_layers.batch", "2").unwrap();
        assert_eq!(check(&half).unwrap_err().to_string(), "auto_layers.k: is 0, must be a whole number of 1 or more");
        assert_eq!(set(&half, "auto_layers.k", "3").unwrap().auto_layers, Some(adapt::AutoLayers { batch: 2, ..adapt::AutoLayers::of(3) }));
    }
}
