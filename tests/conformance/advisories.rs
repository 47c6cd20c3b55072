//! Security advisories of Istio and Envoy, class by class: a test that would fail if Portolan had the
//! fault, by its name, or why no control plane can cause it.

use std::{fs, path::Path, sync::LazyLock};

use anyhow::{Context, Result, ensure};
use proto::render_message;
use serde_json::Value;
use tests::{case, lab};
use translate::{Mesh, Settings};

use crate::authz::shown_by;

enum Answer {
    /// By each of these tests.
    Shown(&'static [&'static str]),
    /// It is not ours to cause.
    NotOurs(&'static str),
}
use Answer::{NotOurs, Shown};

const CLASSES: &[(&str, Answer)] = &[
    (
        "CVE-2019-9901, CVE-2021-29492, CVE-2021-31920",
        Shown(&[
            "cve_2019_9901_dot_segments_hide_no_path",
            "cve_2021_29492_escaped_slashes_are_slashes_where_the_mesh_says_so",
            "cve_2021_31920_several_slashes_are_one_where_the_mesh_says_so",
            "paths_are_normalized_as_the_mesh_says_and_a_change_is_for_new_tunnels_and_drains_nothing",
        ]),
    ),
    (
        "CVE-2020-8595, CVE-2021-39156, CVE-2021-32779",
        Shown(&["cve_2020_8595_cve_2021_39156_cve_2021_32779_a_path_ends_before_its_query_and_fragment"]),
    ),
    ("CVE-2020-16844", Shown(&["cve_2020_16844_a_suffix_of_a_principal_means_the_same_for_tcp"])),
    ("CVE-2021-21378", Shown(&["cve_2021_21378_a_token_that_may_be_missing_may_not_be_wrong"])),
    ("ISTIO-SECURITY-2021-002", Shown(&["istio_security_2021_002_a_port_is_the_one_that_was_dialled"])),
    (
        "ISTIO-SECURITY-2021-004",
        Shown(&[
            "istio_security_2021_004_what_is_not_said_of_a_caller_lets_nobody_in",
            "a_certificate_with_two_identities_or_with_none_is_refused",
        ]),
    ),
    ("CVE-2021-39155", Shown(&["cve_2021_39155_a_host_is_the_same_in_any_case"])),
    (
        "CVE-2021-32777, CVE-2026-26308, #44819",
        Shown(&["cve_2021_32777_cve_2026_26308_each_line_of_a_header_counts"]),
    ),
    ("CVE-2022-21679", Shown(&["an_envoy_that_is_older_than_what_it_would_be_sent_gets_nothing"])),
    (
        "CVE-2022-21656, CVE-2025-66220, CVE-2026-47778",
        Shown(&[
            "cve_2022_21656_cve_2025_66220_cve_2026_47778_only_a_whole_uri_is_an_identity",
            "cve_2022_21656_names_of_certificates_are_compared_as_uris",
        ]),
    ),
    (
        "CVE-2023-27487, CVE-2024-45806",
        Shown(&[
            "cve_2023_27487_cve_2024_45806_envoys_own_headers_are_not_believed_when_a_caller_sends_them",
            "cve_2024_45806_no_address_is_internal",
        ]),
    ),
    (
        "CVE-2023-27488, CVE-2024-23324",
        Shown(&[
            "cve_2023_27488_cve_2024_23324_what_a_provider_cannot_be_told_is_not_passed",
            "a_provider_is_asked_by_http_about_what_the_rules_match_and_its_refusal_is_the_answer",
        ]),
    ),
    ("CVE-2024-45809, CVE-2025-64527", Shown(&["cve_2024_45809_cve_2025_64527_no_proxy_fetches_keys"])),
    ("CVE-2025-46821", Shown(&["cve_2025_46821_a_template_knows_every_character"])),
    (
        "CVE-2025-64763",
        NotOurs(
            "Envoy passes on what a client sends before its CONNECT is answered; no configuration asks for it. Envoy 1.40 does not, and an older one is not served",
        ),
    ),
    (
        "CVE-2026-31837",
        Shown(&[
            "nobodys_key_is_one_that_envoy_takes_and_was_not_chosen",
            "private_halves_and_what_envoy_does_not_read_go_no_further",
            "keys_are_fetched_rotated_and_kept_when_what_is_served_is_bad",
        ]),
    ),
    (
        "CVE-2026-39350, istio 59992",
        Shown(&["cve_2026_39350_a_dot_is_a_dot_in_accounts_namespaces_and_principals"]),
    ),
    (
        "GHSA-fgw5-hp8f-xfhc",
        Shown(&[
            "what_only_we_can_reach_is_refused_in_every_spelling",
            "this_machine_is_not_asked_unless_that_was_allowed",
        ]),
    ),
    (
        "CVE-2026-31838, debug endpoints",
        Shown(&[
            "a_wrong_an_expired_and_a_missing_token_and_the_name_of_another_gateway_get_nothing",
            "there_is_an_admin_interface_only_where_one_is_asked_for",
        ]),
    ),
    ("CVE-2026-73551", Shown(&["cve_2026_73551_parameters_hide_no_dot_segment"])),
    ("CVE-2026-73552", Shown(&["cve_2026_73552_bytes_that_are_no_text_escape_no_rule"])),
    (
        "CVE-2026-73553, CVE-2026-73511",
        Shown(&["cve_2026_73553_cve_2026_73511_parameters_are_part_of_a_path"]),
    ),
    (
        "CVE-2026-73547, CVE-2026-50572",
        NotOurs("Envoy's own memory; no configuration asks for it. An Envoy before 1.40.0 is not served"),
    ),
    (
        "ISTIO-SECURITY-2026-006",
        Shown(&["istio_security_2026_006_the_longest_values_are_taken_and_longer_ones_are_refused"]),
    ),
    (
        "istio 54146, 53884",
        NotOurs(
            "PeerAuthentication and policies without targetRefs are for ztunnel, which Portolan does not serve; a waypoint asks every caller for a certificate",
        ),
    ),
    (
        "istio 61092, 60806",
        NotOurs("they are about ingress and east-west gateways, which Portolan does not serve"),
    ),
    ("istio 54071", Shown(&["a_policy_is_in_the_chains_that_its_targets_say_and_in_no_others"])),
    (
        "addresses of a tunnel that never match",
        Shown(&[
            "addresses_of_a_tunnel_match",
            "an_ip_block_is_compared_with_where_the_tunnel_comes_from_whatever_a_request_says",
        ]),
    ),
    (
        "one caller judged as another",
        Shown(&[
            "concurrent_tunnels_of_two_identities_are_never_judged_as_each_other",
            "every_way_into_the_listener_keeps_callers_apart",
        ]),
    ),
    (
        "a TCP policy that waits for the first byte",
        Shown(&["a_denied_client_of_a_server_first_backend_never_sees_a_byte_and_the_backend_no_connection"]),
    ),
    ("methods in small letters by HTTP/2", Shown(&["a_method_is_refused_in_small_letters_too"])),
    (
        "a mistake in a policy that opens or is rejected",
        Shown(&[
            "a_mistake_in_a_policy_opens_nothing",
            "no_policy_makes_envoy_reject_or_leaves_anything_behind",
        ]),
    ),
    (
        "providers whose names begin alike (CU14), providers on trial (CU15), on TCP (CU16)",
        Shown(&[
            "two_providers_are_asked_each_about_its_own_rules_only",
            "what_is_emitted_judges_as_the_api_says",
            "where_nobody_answers_a_tunnel_ends_as_the_mesh_says",
        ]),
    ),
    (
        "a service map by host name",
        Shown(&["a_policy_is_in_the_chains_that_its_targets_say_and_in_no_others"]),
    ),
    ("a name that is dialled", Shown(&["a_tunnel_to_an_address_that_is_no_service_is_not_found"])),
];

/// A list of names that nobody has would look like one of tests that pass.
#[test]
fn every_class_has_a_test_of_that_name_or_a_reason() -> Result<()> {
    let mut sources = String::new();
    for room in ["proto", "translate", "watch", "xds", "deploy", "tests"] {
        read_all(&lab::repository().join(room), &mut sources)?;
    }
    for (class, answer) in CLASSES {
        match answer {
            Shown(tests) => {
                ensure!(!tests.is_empty(), "nothing shows {class}");
                for test in *tests {
                    let line = format!("fn {test}()");
                    let at =
                        sources.find(&line).with_context(|| format!("{class}: there is no test {test}"))?;
                    let attribute = sources[..at].trim_end().trim_end_matches("async").trim_end();
                    ensure!(attribute.ends_with("test]"), "{test} is no test");
                }
            }
            NotOurs(why) => ensure!(why.len() > 40, "{class} says nothing"),
        }
    }
    Ok(())
}

fn read_all(directory: &Path, into: &mut String) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, into)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            into.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[test]
fn cve_2019_9901_dot_segments_hide_no_path() -> Result<()> {
    shown_by(&["T243", "T244"])
}

#[test]
fn cve_2021_29492_escaped_slashes_are_slashes_where_the_mesh_says_so() -> Result<()> {
    shown_by(&["T247", "T256", "T257", "T258"])
}

#[test]
fn cve_2021_31920_several_slashes_are_one_where_the_mesh_says_so() -> Result<()> {
    shown_by(&["T246", "T255"])
}

#[test]
fn cve_2020_8595_cve_2021_39156_cve_2021_32779_a_path_ends_before_its_query_and_fragment() -> Result<()> {
    shown_by(&["T225", "T282", "P003", "P004"])
}

#[test]
fn cve_2020_16844_a_suffix_of_a_principal_means_the_same_for_tcp() -> Result<()> {
    shown_by(&["T046", "T048", "T049", "P001", "P002"])
}

#[test]
fn cve_2021_21378_a_token_that_may_be_missing_may_not_be_wrong() -> Result<()> {
    shown_by(&["T409", "T411", "T412"])
}

#[test]
fn istio_security_2021_002_a_port_is_the_one_that_was_dialled() -> Result<()> {
    shown_by(&["T151", "T152", "T155", "T156"])
}

#[test]
fn istio_security_2021_004_what_is_not_said_of_a_caller_lets_nobody_in() -> Result<()> {
    shown_by(&["T054", "T055", "T072", "T095"])
}

#[test]
fn cve_2021_39155_a_host_is_the_same_in_any_case() -> Result<()> {
    shown_by(&["T179", "T193", "P013", "P015"])
}

#[test]
fn cve_2021_32777_cve_2026_26308_each_line_of_a_header_counts() -> Result<()> {
    shown_by(&["T317", "T318", "T319"])
}

#[test]
fn cve_2025_46821_a_template_knows_every_character() -> Result<()> {
    shown_by(&["T291", "T292", "T293", "T294", "T300"])
}

#[test]
fn cve_2026_39350_a_dot_is_a_dot_in_accounts_namespaces_and_principals() -> Result<()> {
    shown_by(&["T066", "T077", "T080"])
}

#[test]
fn cve_2026_73551_parameters_hide_no_dot_segment() -> Result<()> {
    shown_by(&["T261"])
}

#[test]
fn addresses_of_a_tunnel_match() -> Result<()> {
    shown_by(&["T131", "T132", "T135", "T136", "T445"])
}

#[test]
fn a_method_is_refused_in_small_letters_too() -> Result<()> {
    shown_by(&["T201"])
}

#[test]
fn a_mistake_in_a_policy_opens_nothing() -> Result<()> {
    shown_by(&["T467", "T469", "T471", "T472", "T474"])
}

#[test]
fn cve_2026_73553_cve_2026_73511_parameters_are_part_of_a_path() -> Result<()> {
    nowhere("ignore_path_parameters");
    nowhere("ignore_path_parameters_in_path_matching");
    shown_by(&["T250"])
}

#[test]
fn cve_2024_45809_cve_2025_64527_no_proxy_fetches_keys() {
    nowhere("remote_jwks");
}

/// Nothing is trusted because of where it comes from, and nobody is believed to be at the edge.
#[test]
fn cve_2024_45806_no_address_is_internal() {
    nowhere("internal_address_config");
    nowhere("xff_num_trusted_hops");
}

#[test]
fn cve_2022_21656_names_of_certificates_are_compared_as_uris() -> Result<()> {
    let mut compared = 0;
    for (place, value) in emitted() {
        each(value, &mut |name, value| {
            // One of any type.
            assert_ne!(name, "match_subject_alt_names", "{place}");
            if name == "match_typed_subject_alt_names" {
                for matcher in value.as_array().into_iter().flatten() {
                    compared += 1;
                    assert_eq!(matcher["san_type"], "URI", "{place}");
                }
            }
        });
    }
    ensure!(compared > 0, "no names are compared at all");
    Ok(())
}

/// A pool for each connection, and the principal as an object that pools are told apart by.
#[test]
fn every_way_into_the_listener_keeps_callers_apart() -> Result<()> {
    let mut ways = 0;
    for (place, value) in emitted() {
        let mut internal = false;
        each(value, &mut |name, value| {
            internal |= name == "server_listener_name";
            if value["object_key"] == "io.istio.peer_principal"
                && value["shared_with_upstream"] != Value::Null
            {
                ways += 1;
                assert_eq!(value["factory_key"], "envoy.hashable_string", "{place}");
            }
        });
        if internal && value.get("load_assignment").is_some() {
            ways += 1;
            assert_eq!(value["connection_pool_per_downstream_connection"], true, "{place}");
        }
    }
    ensure!(ways > 1, "there is no way in");
    Ok(())
}

/// That no resource of any case has the field.
fn nowhere(field: &str) {
    for (place, value) in emitted() {
        each(value, &mut |name, value| {
            assert!(name != field, "{place} has {field}: {value}");
        });
    }
}

/// Every resource of every case of the snapshots, with what it is.
fn emitted() -> &'static [(String, Value)] {
    static EMITTED: LazyLock<Vec<(String, Value)>> = LazyLock::new(|| emit_all().unwrap());
    &EMITTED
}

fn emit_all() -> Result<Vec<(String, Value)>> {
    let mut all = Vec::new();
    for case in case::all(&lab::repository().join("tests/snapshots"))? {
        let mut mesh = Mesh::new(Settings::default());
        let defaults = case.defaults.iter().map(|edit| edit.change.clone()).collect();
        for changes in
            [defaults].into_iter().chain(case.steps.iter().map(|step| step.changes().collect::<Vec<_>>()))
        {
            let commit = mesh.commit(changes);
            for resource in commit.resources.values().flat_map(|delta| &delta.set) {
                let type_url = resource.type_url.as_str();
                let place = format!("{}/{}: {type_url} {}", case.folder, case.name, resource.name);
                all.push((place, render_message(type_url, resource.body.plain())?));
            }
        }
    }
    ensure!(all.len() > 1000, "{} resources are too few", all.len());
    Ok(all)
}

/// Every field in the value, and in what is in it.
fn each(value: &Value, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                see(name, value);
                each(value, see);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| {
            see("", item);
            each(item, see);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
