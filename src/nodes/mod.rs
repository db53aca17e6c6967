//! The built-in nodes, one file each.

mod expressions;
mod files;
mod http_answer;
mod keys;
pub mod scratch;
mod sql;

use std::sync::Arc;

use crate::node::Node;
use crate::node::Registry;
use crate::node::Typed;

/// Declares the module of every node and lists the nodes; the only list there is.
macro_rules! builtin_nodes {
    ($($module:ident::$node:ident),* $(,)?) => {
        $(mod $module;)*

        /// Makes the registry of all built-in nodes.
        #[must_use]
        pub fn registry() -> Registry {
            let nodes: Vec<Arc<dyn Node>> = vec![$(Arc::new(Typed::<$module::$node>::new())),*];
            Registry::new(nodes)
        }
    };
}

builtin_nodes![
    approval_request::ApprovalRequest,
    assert_that::AssertThat,
    csv_read::CsvRead,
    csv_write::CsvWrite,
    data_filter::DataFilter,
    data_group::DataGroup,
    data_join::DataJoin,
    data_map::DataMap,
    data_reduce::DataReduce,
    data_sort::DataSort,
    file_delete::FileDelete,
    file_read::FileRead,
    file_write::FileWrite,
    http_request::HttpRequest,
    json_parse::JsonParse,
    log_write::LogWrite,
    pipeline_run::PipelineRun,
    portfolio_rebalance::PortfolioRebalance,
    shell_run::ShellRun,
    sql_execute::SqlExecute,
    sql_query::SqlQuery,
    template_render::TemplateRender,
    time_wait::TimeWait,
];
