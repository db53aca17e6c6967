//! From a YAML file to a checked pipeline.

mod catalog;
mod child;
mod compile;
mod composite;
mod conditions;
mod declared;
mod definition;
mod expressions;
mod fits;
mod graph;
mod infer;
mod inputs;
mod kinds;
#[expect(clippy::module_inception, reason = "the file of the checked pipeline is found by its name")]
mod pipeline;
mod project;
mod prompts;
mod read;
mod schema;
mod sealing;
mod shapes;
mod step;
mod triggers;
mod uses;
mod with;

pub use self::catalog::Catalog;
pub use self::catalog::Checked;
pub use self::catalog::Loaded;
pub use self::catalog::compile_text;
pub use self::composite::OUTPUT as COMPOSITE_OUTPUT;
pub use self::definition::compile_definition;
pub use self::inputs::Given;
pub use self::inputs::check_inputs;
pub use self::inputs::check_values;
pub use self::project::Project;
pub use self::project::ProjectConnection;
pub use self::project::SecretPlace;
pub use self::schema::FileKind;
pub use self::schema::schema;

pub use self::pipeline::Cache;
pub use self::pipeline::Durability;
pub use self::pipeline::Graph;
pub use self::pipeline::Guard;
pub use self::pipeline::Input;
pub use self::pipeline::InputType;
pub use self::pipeline::Lock;
pub use self::pipeline::OnError;
pub use self::pipeline::Pipeline;
pub use self::pipeline::Retry;
pub use self::pipeline::Step;
pub use self::pipeline::Undo;
pub use self::pipeline::Until;
