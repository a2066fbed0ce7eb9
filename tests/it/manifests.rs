//! What lies in `deploy/` is read, agrees with itself and with the binary, and serves.

use std::collections::BTreeMap;
use std::fs::{read_dir, read_to_string, write};
use std::path::Path;

use config::{Config, File, FileFormat};
use redis::Commands;
use serde_json::Value;

use crate::support::admin::Admin;
use crate::support::bed::PATIENCE;
use crate::support::gaugefn::{Gaugefn, Running};
use crate::support::project;
use crate::support::redis::RedisServer;
use crate::support::wait::eventually;

const DROP_IN: &str = "deploy/k8s/deployment.yaml";
const RECOMMENDED: &str = "deploy/k8s/recommended/deployment.yaml";
const COMPOSE: &str = "deploy/compose.yaml";

/// Known to every program, or to the libraries of this one.
const COMMON: &[&str] = &["TMPDIR"];

fn yaml(path: &str) -> Value {
    let text = read_to_string(project(path)).unwrap();
    let read = Config::builder().add_source(File::from_str(&text, FileFormat::Yaml)).build();
    read.and_then(Config::try_deserialize).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The value at this JSON pointer, which must be there.
fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text: it wants quotes"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

/// The data of every ConfigMap by name.
fn config_maps() -> BTreeMap<String, Value> {
    ["deploy/k8s/pyfile.yaml", "deploy/k8s/outputkey.yaml"]
        .map(yaml)
        .map(|map| (text(at(&map, "/metadata/name")).to_owned(), at(&map, "/data").clone()))
        .into()
}

fn container(deployment: &Value) -> &Value {
    let [one] = list(at(deployment, "/spec/template/spec/containers")) else { panic!("one container") };
    one
}

/// The variables of a container, those of ConfigMaps included.
fn variables(container: &Value) -> BTreeMap<String, String> {
    let maps = config_maps();
    let value = |variable: &Value| match variable.pointer("/valueFrom/configMapKeyRef") {
        Some(named) => text(&maps[text(&named["name"])][text(&named["key"])]).to_owned(),
        None => text(&variable["value"]).to_owned(),
    };
    list(&container["env"]).iter().map(|variable| (text(&variable["name"]).to_owned(), value(variable))).collect()
}

fn of_service(service: &Value) -> BTreeMap<String, String> {
    let variables = service["environment"].as_object().unwrap();
    variables.iter().map(|(name, value)| (name.clone(), text(value).to_owned())).collect()
}

fn with(mut gaugefn: Gaugefn, variables: &BTreeMap<String, String>) -> Gaugefn {
    for (name, value) in variables {
        gaugefn = gaugefn.env(name, value);
    }
    gaugefn
}

/// Each of them decides something, and together they are a configuration without a mistake.
fn are_known(variables: &BTreeMap<String, String>) {
    let explained = with(Gaugefn::command().args(["config", "--explain"]), variables).output(PATIENCE);
    assert_eq!((explained.status.code(), explained.stderr.as_str()), (Some(0), ""), "{explained:?}");
    for name in variables.keys().filter(|name| !COMMON.contains(&name.as_str())) {
        // of `use` no origin is shown, but an unknown one would have been refused
        let shown = explained.stdout.contains(&format!("# {name}\n")) || name.ends_with("__USE");
        assert!(shown, "{name} decides nothing: {}", explained.stdout);
    }
    let grace = explained.stdout.lines().find_map(|line| line.strip_prefix("drain = \"")?.split('s').next());
    assert!(grace.unwrap().parse::<u64>().unwrap() < 30, "less than the grace of the manifests");
}

fn ready(admin: &mut Admin, path: &str, running: &Running) {
    let mut last = None;
    let answered = eventually(PATIENCE, || {
        last = admin.get(path).ok();
        last.as_ref().filter(|(status, _)| *status == 200).map(|_| ())
    });
    assert!(answered.is_some(), "{path}: {last:?}\n{}", running.written());
}

fn stored(redis: &mut redis::Connection, key: &str, running: &Running) -> Value {
    let mut found: Option<String> = None;
    let arrived = eventually(PATIENCE, || {
        found = redis.get(key).unwrap();
        found.as_ref().map(|_| ())
    });
    assert!(arrived.is_some(), "nothing at {key}\n{}", running.written());
    serde_json::from_str(&found.unwrap()).unwrap()
}

/// The variables of this server instead of the manifest's.
fn here(variables: &mut BTreeMap<String, String>, server: &RedisServer) {
    variables.insert("REDIS_HOST".to_owned(), "127.0.0.1".to_owned());
    variables.insert("REDIS_PORT".to_owned(), server.port().to_string());
}

#[test]
fn every_manifest_is_read_and_names_what_is_there() {
    let mut found = Vec::new();
    for folder in ["deploy", "deploy/k8s", "deploy/k8s/recommended"] {
        for entry in read_dir(project(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if Path::new(&name).extension().is_some_and(|extension| extension == "yaml") {
                found.push(format!("{folder}/{name}"));
            }
        }
    }
    found.sort();
    let known = [COMPOSE, DROP_IN, "deploy/k8s/outputkey.yaml", "deploy/k8s/pyfile.yaml", RECOMMENDED];
    assert_eq!(found, known, "this test knows them all");

    let image = format!("gaugefn:{}", env!("CARGO_PKG_VERSION"));
    for deployment in [DROP_IN, RECOMMENDED].map(yaml) {
        assert_eq!(text(at(&deployment, "/apiVersion")), "apps/v1");
        assert_eq!(text(at(&deployment, "/kind")), "Deployment");
        let labels = at(&deployment, "/spec/template/metadata/labels");
        assert_eq!(at(&deployment, "/spec/selector/matchLabels"), labels);
        let container = container(&deployment);
        assert_eq!(text(&container["image"]), image);
        are_known(&variables(container));
        let volumes = list(at(&deployment, "/spec/template/spec/volumes"));
        for mount in list(&container["volumeMounts"]) {
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]);
            let volume = volume.unwrap_or_else(|| panic!("no volume {}", mount["name"]));
            let Some(map) = volume.get("configMap") else { continue };
            let data = &config_maps()[text(&map["name"])];
            let items = map.get("items").map(list).unwrap_or_default();
            for key in items.iter().map(|item| &item["key"]).chain(mount.get("subPath")) {
                assert!(data.get(text(key)).is_some(), "no key {key} in {}", map["name"]);
            }
        }
    }
    let usermodule = read_to_string(project("deploy/k8s/usermodule.py")).unwrap();
    assert_eq!(text(&config_maps()["pyfile"]["pyfile"]), usermodule, "pyfile.yaml holds the text of usermodule.py");

    for page in ["README.md", "deploy/k8s/README.md"] {
        let page = read_to_string(project(page)).unwrap();
        let tags = page.match_indices("gaugefn:").map(|(start, _)| &page[start..]);
        let tags = tags.filter(|tag| tag["gaugefn:".len()..].starts_with(|digit: char| digit.is_ascii_digit()));
        let others: Vec<_> = tags.filter(|tag| !tag.starts_with(&image)).collect();
        assert!(others.is_empty(), "{others:?}");
    }

    let compose = yaml(COMPOSE);
    let services = compose["services"].as_object().unwrap();
    for (name, service) in services.iter().filter(|(name, _)| *name != "redis") {
        assert_eq!(text(&service["image"]), image, "{name}");
        assert_eq!(text(&service["stop_grace_period"]), "30s");
        are_known(&of_service(service));
        for other in service["depends_on"].as_object().unwrap().keys() {
            assert!(services.contains_key(other), "{name} depends on {other}");
        }
    }
}

#[test]
fn the_recommended_deployment_serves_and_its_probes_are_answered() {
    let deployment = yaml(RECOMMENDED);
    let pod = at(&deployment, "/spec/template/spec");
    let container = container(&deployment);
    let server = RedisServer::start();
    let mut redis = server.connection();
    let event = read_to_string(project("tests/data/metrics.jsonl")).unwrap();
    let _: () = redis.set("metrics", event.lines().next().unwrap()).unwrap();

    // the mounted folder, with what the ConfigMap's items put there
    let folder = tempfile::tempdir().unwrap();
    let [function, scratch] = list(&container["volumeMounts"]) else { panic!("two mounts") };
    assert!(function.get("subPath").is_none(), "changes never arrive in a subPath");
    assert_eq!(text(&scratch["mountPath"]), "/tmp");
    let [item] = list(at(pod, "/volumes/0/configMap/items")) else { panic!("one item") };
    let path = folder.path().join(text(&item["path"]));
    write(&path, text(&config_maps()["pyfile"][text(&item["key"])])).unwrap();
    let mut variables = variables(container);
    let module = variables["USER_MODULE_PATH"].strip_prefix(text(&function["mountPath"])).unwrap().to_owned();
    assert_eq!(folder.path().join(module.trim_start_matches('/')), path, "the function is where it is mounted");
    variables.insert("USER_MODULE_PATH".to_owned(), path.to_str().unwrap().to_owned());
    variables.insert("TMPDIR".to_owned(), folder.path().to_str().unwrap().to_owned());
    here(&mut variables, &server);

    // the image listens where the probes ask
    let [port] = list(&container["ports"]) else { panic!("one port") };
    let listen = format!("GAUGEFN__ADMIN__LISTEN=0.0.0.0:{}", port["containerPort"]);
    assert!(read_to_string(project("Dockerfile")).unwrap().contains(&listen), "no {listen} in the image");
    let mut admin = Admin::reserve();
    let run = Gaugefn::command().args(["run"]).env("GAUGEFN__ADMIN__LISTEN", admin.listen());
    let running = with(run, &variables).spawn();
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(at(container, &format!("/{probe}/httpGet/port")), &port["name"], "{probe}");
        ready(&mut admin, text(at(container, &format!("/{probe}/httpGet/path"))), &running);
    }
    let annotations = at(&deployment, "/spec/template/metadata/annotations");
    assert_eq!(text(&annotations["prometheus.io/port"]), port["containerPort"].to_string());
    ready(&mut admin, text(&annotations["prometheus.io/path"]), &running);
    let result = stored(&mut redis, &variables["REDIS_OUTPUT_KEY"], &running);
    assert!(result["percent-network-egress"].is_number(), "{result}");

    // what a restricted cluster asks for
    for (pointer, wanted) in [
        ("/securityContext/runAsNonRoot", Value::from(true)),
        ("/securityContext/runAsUser", 65532.into()),
        ("/securityContext/seccompProfile/type", "RuntimeDefault".into()),
        ("/containers/0/securityContext/allowPrivilegeEscalation", false.into()),
        ("/containers/0/securityContext/readOnlyRootFilesystem", true.into()),
        ("/containers/0/securityContext/capabilities/drop/0", "ALL".into()),
        ("/volumes/1/emptyDir/sizeLimit", "1Gi".into()),
        ("/terminationGracePeriodSeconds", 30.into()),
    ] {
        assert_eq!(*at(pod, pointer), wanted, "{pointer}");
    }
}

#[test]
fn compose_feeds_the_function_and_stores_its_results() {
    let compose = yaml(COMPOSE);
    let server = RedisServer::start();
    let mut redis = server.connection();
    let start = |service: &str| {
        let mut variables = of_service(at(&compose, &format!("/services/{service}")));
        here(&mut variables, &server);
        if let Some(path) = variables.get_mut("USER_MODULE_PATH") {
            // the volume `../examples:/opt/function:ro`, from the folder of the file
            let volume = text(at(&compose, "/services/gaugefn/volumes/0"));
            let [from, to, "ro"] = volume.split(':').collect::<Vec<_>>()[..] else { panic!("{volume}") };
            let name = path.strip_prefix(to).unwrap().trim_start_matches('/');
            *path = project("deploy").join(from).join(name).to_str().unwrap().to_owned();
        }
        // ten times as fast
        for (name, value) in [("GAUGEFN__FUNCTIONS__FEEDER__SOURCE__PERIOD", "500ms"), ("REDIS_MONITOR_PERIOD", "0.5")]
        {
            if service == "gaugefn" && name.starts_with("REDIS") || variables.contains_key(name) {
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
        with(Gaugefn::command().args(["run"]), &variables).spawn()
    };
    let function = start("gaugefn");
    let feeder = start("feeder");
    let fed = stored(&mut redis, "metrics", &feeder);
    assert!(fed["n_pids"].is_number(), "{fed}");
    let result = stored(&mut redis, "vm-result", &function);
    assert!(result.is_object(), "{result}");
}
