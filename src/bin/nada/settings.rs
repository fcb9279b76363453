//! A flag for every setting of an adaptation and of an inversion, made of the library's list; what is given wins over the pack's recipe.

use clap::builder::{PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use nada::settings::{self, Kind, Listed, Setting};
use nada::{adapt, invert, Error, Result};
use serde_json::Value;
use std::marker::PhantomData;

/// A kind of settings, as flags.
pub trait Flags: Listed + Default + 'static {
    /// Before each flag's name.
    const BEFORE: &'static str;
    const HEADING: &'static str;
    /// Settings whose flags also go without what stands before the others.
    const ALONE: &'static [&'static str] = &[];
}

impl Flags for adapt::Settings {
    const BEFORE: &'static str = "";
    const HEADING: &'static str = "Settings (each wins over the pack's recipe)";
}

impl Flags for invert::Settings {
    const BEFORE: &'static str = "invert-";
    const HEADING: &'static str = "Settings of the inversion (each wins over the pack's)";
    const ALONE: &'static [&'static str] = &["method", "rounds"];
}

/// What was given.
pub struct Given<T> {
    /// With the text of each value; None leaves a table out.
    changes: Vec<(&'static Setting, Option<String>)>,
    kind: PhantomData<T>,
}

pub type AdaptSettings = Given<adapt::Settings>;
pub type InvertSettings = Given<invert::Settings>;

impl<T: Flags> Given<T> {
    /// `recipe` with what was given. Errors name the setting that is out of range.
    pub fn over(&self, recipe: T) -> Result<T> {
        let value = |(setting, text): &(&'static Setting, Option<String>)| match text {
            None => Ok((*setting, Value::Null)),
            Some(text) => parsed(setting, text),
        };
        let changes = self.changes.iter().map(value).collect::<Result<Vec<_>>>()?;
        let changed = settings::with(&recipe, changes)?;
        settings::check(&changed)?;
        Ok(changed)
    }
}

fn parsed(setting: &'static Setting, text: &str) -> Result<(&'static Setting, Value)> {
    setting.kind.parse(text).map(|value| (setting, value)).map_err(|message| Error::argument(setting.name, message))
}

/// `losses.in_domain` is `--losses-in-domain`; a table as a whole can only be left out: `--no-stop`.
fn flag<T: Flags>(setting: &Setting) -> String {
    let before = if matches!(setting.kind, Kind::Group { .. }) { "no-" } else { "" };
    format!("{}{before}{}", T::BEFORE, setting.name.replace(['.', '_'], "-"))
}

fn value_name(setting: &Setting) -> &'static str {
    match setting.kind {
        Kind::Count(..) => "N",
        Kind::Flag => "BOOL",
        Kind::Choice(_) => "NAME",
        _ => "X",
    }
}

impl<T: Flags> Args for Given<T> {
    fn augment_args(command: Command) -> Command {
        T::SETTINGS.iter().fold(command.next_help_heading(T::HEADING), |command, setting| {
            let long = flag::<T>(setting);
            let arg = Arg::new(long.clone()).long(long);
            let arg = if T::ALONE.contains(&setting.name) { arg.visible_alias(setting.name) } else { arg };
            let group = setting.name.split_once('.').and_then(|(table, _)| T::SETTINGS.iter().find(|s| s.name == table));
            let arg = match (setting.kind, group) {
                (Kind::Group { .. }, _) => arg.action(clap::ArgAction::SetTrue).help(format!("Leave out this: {}", setting.help)),
                (kind, group) => {
                    let unit = if setting.unit.is_empty() { String::new() } else { format!(" ({})", setting.unit) };
                    let arg = arg.value_name(value_name(setting)).help(format!("{}{unit}", setting.help)).allow_negative_numbers(true);
                    // Names and the shape of a number are the command line's business; ranges are the library's.
                    let arg = match kind {
                        Kind::Choice(names) => arg.value_parser(PossibleValuesParser::new(names)),
                        Kind::Flag => arg.value_parser(PossibleValuesParser::new(["true", "false"])),
                        Kind::Count(..) => arg.value_parser(StringValueParser::new().try_map(|text| text.parse::<u64>().map(|_| text))),
                        _ => arg.value_parser(StringValueParser::new().try_map(|text| text.parse::<f64>().map(|_| text))),
                    };
                    match group {
                        Some(group) => arg.conflicts_with(flag::<T>(group)),
                        None => arg,
                    }
                }
            };
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<T: Flags> FromArgMatches for Given<T> {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let given = |setting: &'static Setting| {
            let name = flag::<T>(setting);
            match setting.kind {
                Kind::Group { .. } => matches.get_flag(&name).then_some((setting, None)),
                _ => matches.get_one::<String>(&name).map(|text| (setting, Some(text.clone()))),
            }
        };
        Ok(Self { changes: T::SETTINGS.iter().filter_map(given).collect(), kind: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Settings of an adaptation by name, for a command that is about something else.
#[derive(Args)]
pub struct SetArgs {
    /// With --to: a setting of the adaptation, such as steps=60 or losses.structure=200, which wins over the pack's recipe; repeatable
    #[arg(long, value_name = "NAME=VALUE", requires = "to")]
    pub set: Vec<String>,
}

impl SetArgs {
    /// As [`Given::over`].
    pub fn over(&self, recipe: adapt::Settings) -> Result<adapt::Settings> {
        let mut changes = Vec::with_capacity(self.set.len());
        for text in &self.set {
            let (name, value) = text.split_once('=').ok_or_else(|| Error::argument("--set", format!("'{text}' must be NAME=VALUE")))?;
            let setting = settings::find::<adapt::Settings>(name.trim())?;
            changes.push(parsed(setting, value)?);
        }
        let changed = settings::with(&recipe, changes)?;
        settings::check(&changed)?;
        Ok(changed)
    }
}
