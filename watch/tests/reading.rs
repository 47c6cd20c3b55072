//! What one reading of a manifest directory says: its objects, and what is wrong with it.
#![allow(clippy::unwrap_used, reason = "a test that cannot write its files has failed")]

use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::{TempDir, tempdir};
use watch::{Severity, Wanted, read_directory};

fn directory(files: &[(&str, &str)]) -> TempDir {
    let root = tempdir().unwrap();
    for (name, text) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// The objects and the complaints, printed, with the directory's name taken out.
fn read(root: &Path) -> (Vec<String>, Vec<String>) {
    let (objects, complaints) = read_directory(root, &Wanted::default()).unwrap();
    let prefix = format!("{}/", root.display());
    let print = |complaint: &watch::Complaint| {
        let severity = if complaint.severity == Severity::Error { "error" } else { "warning" };
        format!("{severity}: {}", complaint.to_string().replace(&prefix, ""))
    };
    let objects = objects.iter().map(|object| object.reference().to_string());
    (objects.collect(), complaints.iter().map(print).collect())
}

fn service(name: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: webapp}}\n")
}

fn namespace(name: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
}

#[test]
fn documents_lists_json_and_subdirectories_are_read() {
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "from-list"}},
        {"apiVersion": "v1", "kind": "ServiceList", "items": [{"metadata": {"name": "nested"}}]}
    ]}"#;
    let root = directory(&[
        ("a.yaml", &format!("# two\n---\n{}---\n{}", namespace("a"), service("web"))),
        ("b/c/deep.yml", &namespace("deep")),
        ("list.json", list),
        ("README.md", "not: [a manifest"),
        (".hidden.yaml", "not: [a manifest"),
        (".git/x.yaml", "not: [a manifest"),
        ("empty.yaml", ""),
        ("comment.yaml", "# nothing yet\n"),
    ]);
    let (objects, complaints) = read(root.path());
    assert_eq!(
        objects,
        [
            "Namespace a",
            "Namespace deep",
            "Namespace from-list",
            "Service default/nested",
            "Service webapp/web"
        ]
    );
    assert_eq!(complaints, [""; 0]);
}

#[test]
fn a_missing_directory_is_an_error_that_says_what_to_do() {
    let root = tempdir().unwrap();
    let error = read_directory(root.path().join("nowhere"), &Wanted::default()).unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("create it"), "{error}");
    fs::write(root.path().join("file"), "").unwrap();
    read_directory(root.path().join("file"), &Wanted::default()).unwrap_err();
}

#[test]
fn a_bad_field_is_named_with_file_document_object_and_path() {
    let web = service("web") + "spec: {ports: [{port: http}]}\n";
    let in_list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: 1}}\n";
    let root =
        directory(&[("web.yaml", &[namespace("a"), namespace("b"), web, in_list.to_owned()].join("---\n"))]);
    let (objects, complaints) = read(root.path());
    assert_eq!(objects, ["Namespace a", "Namespace b"]);
    assert_eq!(
        complaints,
        [
            "error: web.yaml document 3 (Service webapp/web): spec.ports[0].port: invalid type: string \"http\", expected i32",
            "error: web.yaml document 4 (Service default/x): items[0].spec.ports: invalid type: integer `1`, expected a sequence",
        ]
    );
}

#[test]
fn a_name_that_yaml_takes_for_a_boolean_is_a_wrong_type_and_not_missing() {
    let root = directory(&[("a.yaml", &namespace("no"))]);
    let expected =
        "error: a.yaml document 1: metadata.name: invalid type: boolean `false`, expected a string";
    assert_eq!(read(root.path()), (vec![], vec![expected.to_owned()]));
}

#[test]
fn a_syntax_error_has_a_line_and_a_column_and_spares_the_other_documents() {
    let root = directory(&[
        ("a.yaml", &format!("{}---\nkind: [\n---\n{}", namespace("a"), namespace("b"))),
        ("b.json", "{\"kind\": }"),
    ]);
    let (objects, complaints) = read(root.path());
    assert_eq!(objects, ["Namespace a", "Namespace b"]);
    assert!(complaints[0].starts_with("error: a.yaml document 2: line "), "{complaints:?}");
    assert_eq!(complaints[1], "error: b.json document 1: line 1, column 10: expected value");
    assert_eq!(complaints.len(), 2, "{complaints:?}");
}

#[test]
fn a_kind_that_is_not_read_is_told_once() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n";
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s}\n";
    let root = directory(&[
        ("a.yaml", &[deployment, account, deployment].join("---\n")),
        ("b.yaml", &(deployment.to_owned() + "---\n" + &namespace("b"))),
    ]);
    let (objects, complaints) = read(root.path());
    assert_eq!(objects, ["Namespace b"]);
    assert_eq!(
        complaints,
        [
            "warning: a.yaml document 1: kind \"Deployment\" of \"apps/v1\" is not read by Portolan",
            "warning: a.yaml document 2: kind \"ServiceAccount\" of \"v1\" is not read by Portolan",
        ]
    );
}

#[test]
fn a_version_that_is_not_supported_names_one_that_is() {
    let policy = "apiVersion: security.istio.io/v9\nkind: AuthorizationPolicy\nmetadata: {name: p}\n";
    let root = directory(&[("a.yaml", policy)]);
    let expected = "error: a.yaml document 1 (AuthorizationPolicy default/p): AuthorizationPolicy \"security.istio.io/v9\" is not supported; use \"security.istio.io/v1\"";
    assert_eq!(read(root.path()), (vec![], vec![expected.to_owned()]));
}

#[test]
fn an_unknown_field_is_a_warning_and_the_object_counts() {
    let root = directory(&[("a.yaml", &(service("web") + "spec: {ports: [{port: 80, prot: TCP}]}\n"))]);
    let (objects, complaints) = read(root.path());
    assert_eq!(objects, ["Service webapp/web"]);
    assert_eq!(
        complaints,
        [
            "warning: a.yaml document 1 (Service webapp/web): spec.ports[0].prot: no such field, it is ignored; check its spelling and its indentation"
        ]
    );
}

#[test]
fn what_is_no_kubernetes_object_is_told_what_one_needs() {
    let root = directory(&[(
        "a.yaml",
        "- 1\n---\nkind: Service\n---\napiVersion: v1\nkind: Service\n---\njust text\n",
    )]);
    let (objects, complaints) = read(root.path());
    assert_eq!(objects, [""; 0]);
    let missing = |document: usize, field: &str| {
        format!(
            "error: a.yaml document {document}: {field} is missing; every manifest needs apiVersion, kind and metadata.name"
        )
    };
    assert_eq!(
        complaints,
        [
            missing(1, "apiVersion"),
            missing(2, "apiVersion"),
            missing(3, "metadata.name"),
            missing(4, "apiVersion")
        ]
    );
}

#[test]
fn the_first_of_two_objects_with_one_name_wins_whatever_was_written_first() {
    let labelled = |label: &str| {
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: web, labels: {{from: {label}}}}}\n")
    };
    for order in [["a/x.yaml", "b.yaml"], ["b.yaml", "a/x.yaml"]] {
        let files = order.map(|name| (name, labelled(if name == "b.yaml" { "b" } else { "a" })));
        let root = directory(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
        let (objects, complaints) = read_directory(root.path(), &Wanted::default()).unwrap();
        let labels = objects[0].metadata().labels.clone().unwrap_or_default();
        assert_eq!(labels["from"], "a");
        let complaint = complaints[0].to_string();
        assert!(complaint.contains("b.yaml document 1 (Namespace web)"), "{complaint}");
        assert!(complaint.contains("a/x.yaml document 1, which is in force"), "{complaint}");
        assert_eq!((objects.len(), complaints.len()), (1, 1));
    }
}

#[test]
fn files_that_are_not_text_or_too_large_are_named_and_the_rest_is_read() {
    let root = directory(&[("good.yaml", &namespace("good"))]);
    fs::write(root.path().join("latin.yaml"), b"# caf\xe9\n").unwrap();
    let large = fs::File::create(root.path().join("large.yaml")).unwrap();
    large.set_len((16 << 20) + 1).unwrap();
    symlink("nowhere.yaml", root.path().join("link.yaml")).unwrap();
    let (objects, complaints) = read(root.path());
    assert_eq!(objects, ["Namespace good"]);
    assert_eq!(
        complaints,
        [
            "error: large.yaml: it is 17 MiB large; split it into files of at most 16 MiB",
            "error: latin.yaml: byte 5 is not UTF-8; save the file as UTF-8",
            "error: link.yaml: the link leads nowhere: No such file or directory (os error 2)",
        ]
    );
}

#[test]
fn a_socket_or_pipe_does_not_stop_the_reading() {
    let root = directory(&[("good.yaml", &namespace("good"))]);
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket.yaml")).unwrap();
    let (objects, complaints) = read(root.path());
    assert_eq!(objects, ["Namespace good"]);
    assert_eq!(
        complaints,
        ["error: socket.yaml: it is not a regular file; remove it or give it another ending"]
    );
}

#[test]
fn a_file_with_two_paths_is_read_once_and_a_link_upwards_ends() {
    let root = directory(&[("real/a.yaml", &namespace("a"))]);
    symlink("real/a.yaml", root.path().join("z.yaml")).unwrap();
    symlink("..", root.path().join("real/up")).unwrap();
    symlink("real", root.path().join("again")).unwrap();
    fs::hard_link(root.path().join("real/a.yaml"), root.path().join("hard.yaml")).unwrap();
    assert_eq!(read(root.path()), (vec!["Namespace a".to_owned()], vec![]));
}

#[test]
fn of_config_maps_only_the_one_that_is_wanted_is_read_or_complained_of() {
    let root = tempdir().unwrap();
    let config = |name: &str, mesh: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: istio-system}}\ndata: {{mesh: {mesh:?}}}\n---\n"
        )
    };
    let both = config("istio", "trustDomain: a") + &config("other", "a: [") + &config("other", "a: [");
    fs::write(root.path().join("config.yaml"), both).unwrap();
    let ours = proto::ObjectRef {
        kind: proto::Kind::ConfigMap,
        namespace: "istio-system".into(),
        name: "istio".into(),
    };
    let wanted = Wanted::by_reference([ours.clone()]);
    let (objects, complaints) = read_directory(root.path(), &wanted).unwrap();
    assert_eq!(objects.iter().map(proto::Object::reference).collect::<Vec<_>>(), [ours]);
    assert_eq!(complaints, []);

    fs::write(root.path().join("config.yaml"), config("istio", "a: [1")).unwrap();
    let (objects, complaints) = read_directory(root.path(), &wanted).unwrap();
    assert!(objects.is_empty());
    let told = complaints.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(matches!(told.as_slice(), [one] if one.contains("data.mesh: not a YAML document")), "{told:?}");
}
