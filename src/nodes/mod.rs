//! The built-in nodes, one file each.

mod asking;
mod expressions;
mod files;
mod generations;
mod http_answer;
mod keys;
mod moments;
pub mod posts;
pub mod scratch;
mod social;
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
    ai_classify::AiClassify,
    ai_embed::AiEmbed,
    ai_generate::AiGenerate,
    ai_reflect::AiReflect,
    ai_turn::AiTurn,
    approval_request::ApprovalRequest,
    assert_that::AssertThat,
    content_adapt::ContentAdapt,
    content_best_time::ContentBestTime,
    context_lessons::ContextLessons,
    context_recent::ContextRecent,
    context_search::ContextSearch,
    context_store::ContextStore,
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
    posts_hold::PostsHold,
    posts_list::PostsList,
    posts_mark::PostsMark,
    posts_measured::PostsMeasured,
    shell_run::ShellRun,
    social_delete::SocialDelete,
    social_metrics::SocialMetrics,
    social_publish::SocialPublish,
    sql_execute::SqlExecute,
    sql_query::SqlQuery,
    template_render::TemplateRender,
    time_wait::TimeWait,
];
