//! `hybridctl flags`: what is switched on, read and changed through model-manager-suite.

use std::process::ExitCode;

use clap::ValueEnum;
use domain::fault::Fault;
use domain::id::FlagName;
use wire::subject::{self, service};
use wire::v1;

use crate::output::Output;
use crate::table::Table;
use crate::target::{System, Target};
use crate::view::FlagView;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// For programs: the flags as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) target: Target,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Show all flags
    List,
    /// Switch a flag on or off
    Set {
        /// For example tier.remote-api or provider.openai
        name: String,
        switch: Switch,
        /// Share of requests it holds for while it is on
        #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100))]
        percent: u32,
    },
    /// Forget a flag
    Remove {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

pub(crate) async fn run(options: &Options, system: &System, output: &Output) -> anyhow::Result<ExitCode> {
    let request = request(options.action.as_ref())?;
    let connection = system.connect().await?;
    let reply = connection.call(&subject::FlagCall, &request, service::MODEL_MANAGER_SUITE).await?;
    connection.close().await;
    if let Some(error) = reply.error {
        return Err(Fault::from(error).into());
    }
    let flags: Vec<FlagView> = reply.flags.into_iter().map(FlagView::from).collect();
    if options.json {
        output.json(&flags)?;
        return Ok(ExitCode::SUCCESS);
    }
    if flags.is_empty() {
        output.line("no flag is set: everything is on");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(["flag", "is", "requests>", "by"]);
    for flag in flags {
        let switch = if flag.enabled { "on" } else { "off" };
        table.row([flag.name, switch.to_owned(), format!("{} %", flag.rollout_percent), flag.updated_by]);
    }
    for line in table.lines() {
        output.line(&line);
    }
    Ok(ExitCode::SUCCESS)
}

fn request(action: Option<&Action>) -> anyhow::Result<v1::FlagRequest> {
    Ok(match action {
        None | Some(Action::List) => v1::FlagRequest::default(),
        Some(Action::Remove { name }) => {
            v1::FlagRequest { remove: checked(name)?, ..v1::FlagRequest::default() }
        }
        Some(Action::Set { name, switch, percent }) => {
            let flag = v1::Flag {
                name: checked(name)?,
                enabled: *switch == Switch::On,
                rollout_percent: *percent,
                updated_by: "hybridctl".to_owned(),
                ..v1::Flag::default()
            };
            v1::FlagRequest { set: Some(flag), ..v1::FlagRequest::default() }
        }
    })
}

fn checked(name: &str) -> anyhow::Result<String> {
    Ok(FlagName::new(name).map_err(Fault::from)?.into_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switched_flag_travels_with_its_share() {
        let action = Action::Set { name: "tier.remote-api".to_owned(), switch: Switch::On, percent: 25 };
        let set = request(Some(&action)).unwrap().set.unwrap();
        assert_eq!((set.name.as_str(), set.enabled, set.rollout_percent), ("tier.remote-api", true, 25));
        let removed = request(Some(&Action::Remove { name: "x".to_owned() })).unwrap();
        assert_eq!((removed.set, removed.remove.as_str()), (None, "x"));
    }

    #[test]
    fn a_flag_that_could_not_be_a_key_is_refused_before_it_is_sent() {
        let error = request(Some(&Action::Remove { name: "a b".to_owned() })).unwrap_err();
        assert_eq!(error.downcast::<Fault>().unwrap().field, "flag");
    }
}
