//! Which of its statistics a waypoint keeps: those that someone reads.
//!
//! An Envoy cluster has more than a hundred statistics and a waypoint has a cluster for each service
//! port. Left alone they are half of what a large waypoint needs in memory and half of its time to start.

use proto::envoy;

/// Families that repeat in every cluster. A Kubernetes name holds no underscore and these are whole
/// segments, so no name of a service can look like one of them.
const NOISE_IN_CLUSTERS: [&str; 5] =
    [".circuit_breakers.", ".lb_", ".assignment_", ".external.upstream_rq", ".internal.upstream_rq"];

/// How often and how long ago a subscription was refreshed. What is left of a subscription are
/// successes, failures and rejections.
const NOISE_OF_SUBSCRIPTIONS: &str = r"(cluster|http\.[a-z_]+\.(rds|scoped_rds))\..+\.(config_reload_time_ms|init_fetch_timeout|max_host_weight|update_attempt|update_duration|update_empty|update_no_rebuild|update_time|version|version_text)";

/// Statistics on the first use of what they count, and without the noise.
pub(super) fn config() -> (envoy::bootstrap::bootstrap::DeferredStatOptions, envoy::metrics::StatsConfig) {
    use envoy::{
        matcher::{ListStringMatcher, RegexMatcher, string_matcher::MatchPattern},
        metrics::{StatsConfig, StatsMatcher, stats_matcher},
    };

    let virtual_hosts = MatchPattern::Prefix("vhost.".to_owned());
    let clusters = NOISE_IN_CLUSTERS.map(|part| MatchPattern::Contains(part.to_owned()));
    let subscriptions = MatchPattern::SafeRegex(RegexMatcher {
        regex: NOISE_OF_SUBSCRIPTIONS.to_owned(),
        ..RegexMatcher::default()
    });
    let patterns = std::iter::once(virtual_hosts).chain(clusters).chain([subscriptions]);
    let excluded = ListStringMatcher { patterns: patterns.map(matcher).collect() };
    let stats = StatsConfig {
        stats_matcher: Some(StatsMatcher {
            stats_matcher: Some(stats_matcher::StatsMatcher::ExclusionList(excluded)),
        }),
        ..StatsConfig::default()
    };
    (envoy::bootstrap::bootstrap::DeferredStatOptions { enable_deferred_creation_stats: true }, stats)
}

fn matcher(pattern: envoy::matcher::string_matcher::MatchPattern) -> envoy::matcher::StringMatcher {
    envoy::matcher::StringMatcher { match_pattern: Some(pattern), ..envoy::matcher::StringMatcher::default() }
}
