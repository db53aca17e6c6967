//! Who gives the command.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::complete;
use crate::app;
use crate::app::Fault;
use crate::diag::did_you_mean;
use crate::pipeline::Person;
use crate::pipeline::Project;

/// Who gives the command. An embedded store believes whoever can open it: the name is what is said, not what is proven.
#[derive(Debug, Args)]
pub(super) struct Who {
    /// Who you are [env: PIPEWRIGHT_AS] [default: the user of the operating system]
    #[arg(long = "as", value_name = "NAME", add = ArgValueCandidates::new(complete::people))]
    name: Option<String>,
}

impl Who {
    /// Returns the name, if there is one.
    pub(super) fn name(&self) -> Option<String> {
        let stated = || app::environment("PIPEWRIGHT_AS");
        let user = || ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(app::environment);
        self.name.clone().or_else(stated).or_else(user).filter(|name| !name.is_empty())
    }

    /// Finds the person in the project file; where that names nobody, anybody is one, without a role.
    pub(super) fn person(&self, project: &Project) -> Result<Person, Fault> {
        let Some(name) = self.name() else {
            return Err(Fault::Usage("say who you are: `--as NAME`, or set `PIPEWRIGHT_AS`".to_owned()));
        };
        if project.people.is_empty() {
            return Ok(Person { name, roles: Vec::new() });
        }
        if let Some(person) = project.people.iter().find(|person| person.name == name) {
            return Ok(person.clone());
        }
        let near = did_you_mean(&name, project.people.iter().map(|person| person.name.as_str()));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let help = "say who you are with `--as NAME`";
        Err(Fault::Usage(format!("`people` of the project file has no `{name}`{near}\n       {help}")))
    }
}
