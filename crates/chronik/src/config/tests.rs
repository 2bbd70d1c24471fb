//! Which setting wins, and what every mistake is answered with.

use std::time::Duration;

use super::*;

/// A configuration's inputs in short: flags and `--set` as on the command line, variables, the file's text.
#[derive(Default)]
struct Inputs<'a> {
    flags: Serve,
    variables: &'a [(&'a str, &'a str)],
    file: &'a str,
}

fn load_all(inputs: Inputs<'_>) -> Result<NodeConfig, String> {
    let variables: Vec<_> = inputs.variables.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let mut flags = inputs.flags;
    if !inputs.file.is_empty() {
        flags.config = Some(PathBuf::from("node.toml"));
    }
    load(&flags, &variables, |_| Ok(inputs.file.to_owned())).map_err(|problem| problem.to_string())
}

fn of_flags(flags: Serve) -> Result<NodeConfig, String> {
    load_all(Inputs { flags, ..Inputs::default() })
}

fn of_variables(variables: &[(&str, &str)]) -> Result<NodeConfig, String> {
    load_all(Inputs { variables, ..Inputs::default() })
}

fn of_set(settings: &[&str]) -> Result<NodeConfig, String> {
    of_flags(Serve { set: settings.iter().map(|s| s.to_string()).collect(), ..Serve::default() })
}

fn listening(address: &str) -> Serve {
    Serve { listen: Some(address.to_owned()), ..Serve::default() }
}

#[test]
fn nothing_given_is_a_node_on_loopback() {
    let config = of_flags(Serve::default()).unwrap();
    let expected = NodeConfig {
        data_dir: PathBuf::from("./data"),
        listen: HostPort::new("127.0.0.1", 9092),
        advertise: Advertise { host: "127.0.0.1".to_owned(), port: None },
        http: Http::Default(HostPort::new("127.0.0.1", 6092)),
        node_id: None,
        replication: Replication { heartbeat: Duration::from_secs(10), ..Replication::default() },
        tls: ClientTls::default(),
        log: "info".to_owned(),
        broker: BTreeMap::new(),
        ignored_variables: Vec::new(),
    };
    assert_eq!(config, expected);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "[log.retention]\nms = 1\nbytes = 1\n[num]\npartitions = 1";
    let variables = [("CHRONIK_LOG_RETENTION_MS", "2"), ("CHRONIK_LOG_RETENTION_BYTES", "2")];
    let flags = Serve { set: vec!["log.retention.ms=3".to_owned()], ..Serve::default() };
    let config = load_all(Inputs { flags, variables: &variables, file }).unwrap();
    let expected = [("log.retention.bytes", "2"), ("log.retention.ms", "3"), ("num.partitions", "1")];
    assert_eq!(config.broker, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn every_setting_of_the_node_can_stand_in_every_place() {
    let file = "data-dir = \"/d\"\nlisten = \"[::1]:1\"\nadvertise = \"h:2\"\nhttp = \"off\"\nnode-id = 7\n\
                chronik.log = \"debug\"";
    let keys = "data-dir=/d listen=[::1]:1 advertise=h:2 http=off node-id=7 chronik.log=debug";
    let variables = [
        ("CHRONIK_DATA_DIR", "/d"),
        ("CHRONIK_LISTEN", "[::1]:1"),
        ("CHRONIK_ADVERTISE", "h:2"),
        ("CHRONIK_HTTP", "off"),
        ("CHRONIK_NODE_ID", "7"),
        ("CHRONIK_LOG", "debug"),
    ];
    let flags = Serve {
        data_dir: Some("/d".to_owned()),
        listen: Some("[::1]:1".to_owned()),
        advertise: Some("h:2".to_owned()),
        http: Some("off".to_owned()),
        node_id: Some("7".to_owned()),
        set: vec!["chronik.log=debug".to_owned()],
        ..Serve::default()
    };
    let expected = NodeConfig {
        data_dir: PathBuf::from("/d"),
        listen: HostPort::new("::1", 1),
        advertise: Advertise { host: "h".to_owned(), port: Some(2) },
        http: Http::Off,
        node_id: Some(NodeId::new(7)),
        replication: Replication { heartbeat: Duration::from_secs(10), ..Replication::default() },
        tls: ClientTls::default(),
        log: "debug".to_owned(),
        broker: BTreeMap::new(),
        ignored_variables: Vec::new(),
    };
    assert_eq!(load_all(Inputs { file, ..Inputs::default() }).unwrap(), expected);
    assert_eq!(of_set(&keys.split(' ').collect::<Vec<_>>()).unwrap(), expected);
    assert_eq!(of_variables(&variables).unwrap(), expected);
    assert_eq!(of_flags(flags).unwrap(), expected);
}

#[test]
fn an_address_may_come_in_two_halves() {
    for (variables, listen, advertised) in [
        (&[("CHRONIK_BIND", "127.0.0.2")][..], "127.0.0.2:9092", "127.0.0.2:9092"),
        (&[("CHRONIK_KAFKA_PORT", "1234")], "127.0.0.1:1234", "127.0.0.1:1234"),
        (&[("CHRONIK_BIND", "::1"), ("CHRONIK_KAFKA_PORT", "1")], "[::1]:1", "[::1]:1"),
        (&[("CHRONIK_BIND", "0.0.0.0"), ("CHRONIK_ADVERTISED_ADDR", "h")], "0.0.0.0:9092", "h:9092"),
        (&[("CHRONIK_ADVERTISED_ADDR", "h"), ("CHRONIK_ADVERTISED_PORT", "5")], "127.0.0.1:9092", "h:5"),
        (&[("CHRONIK_ADVERTISED_ADDR", "h:5"), ("CHRONIK_ADVERTISED_PORT", "5")], "127.0.0.1:9092", "h:5"),
        (&[("CHRONIK_ADVERTISED_PORT", "5")], "127.0.0.1:9092", "127.0.0.1:5"),
        (&[("CHRONIK_LISTEN", "a:1"), ("CHRONIK_KAFKA_PORT", "1")], "a:1", "a:1"),
    ] {
        let config = of_variables(variables).unwrap();
        assert_eq!(config.listen.to_string(), listen, "{variables:?}");
        assert_eq!(config.advertise.address(config.listen.port).to_string(), advertised, "{variables:?}");
    }
}

#[test]
fn a_layer_may_replace_one_half_and_a_whole_address_replaces_both() {
    let half =
        load_all(Inputs { file: "listen = \"a:1\"", variables: &[("CHRONIK_KAFKA_PORT", "2")], ..Inputs::default() });
    assert_eq!(half.unwrap().listen.to_string(), "a:2");
    let flags = Serve { advertise: Some("h".to_owned()), ..Serve::default() };
    let variables = [("CHRONIK_ADVERTISE", "x:1")];
    let whole = load_all(Inputs { flags, variables: &variables, ..Inputs::default() }).unwrap();
    assert_eq!(whole.advertise, Advertise { host: "h".to_owned(), port: None });
}

#[test]
fn the_port_the_system_chose_is_the_one_advertised() {
    let config = of_flags(listening("127.0.0.1:0")).unwrap();
    assert_eq!(config.advertise.address(40_000), HostPort::new("127.0.0.1", 40_000));
}

#[test]
fn a_wildcard_is_listened_on_but_never_advertised() {
    for address in ["0.0.0.0:9092", "[::]:9092", "0.0.0.0:0"] {
        let problem = of_flags(listening(address)).unwrap_err();
        assert!(problem.contains("add --advertise HOST:PORT (CHRONIK_ADVERTISE)"), "{address}: {problem}");
        assert!(problem.contains("localhost:9092"), "{address}: {problem}");
        let flags = Serve { advertise: Some("h".to_owned()), ..listening(address) };
        assert_eq!(of_flags(flags).unwrap().advertise.host, "h");
    }
    let flags = Serve { advertise: Some("0.0.0.0:9092".to_owned()), ..listening("0.0.0.0:9092") };
    let problem = of_flags(flags).unwrap_err();
    assert!(problem.contains("no client can connect"), "{problem}");
}

#[test]
fn the_configuration_file_can_be_named_by_the_environment() {
    let variables = [("CHRONIK_CONFIG".to_owned(), "/etc/chronik.toml".to_owned())];
    let config = load(&Serve::default(), &variables, |path| {
        assert_eq!(path, Path::new("/etc/chronik.toml"));
        Ok("node.id = 9".to_owned())
    });
    assert_eq!(config.unwrap().node_id, Some(NodeId::new(9)));
}

#[test]
fn a_configuration_file_that_cannot_be_read_is_named() {
    for (kind, next) in [
        (io::ErrorKind::NotFound, "path of an existing file"),
        (io::ErrorKind::PermissionDenied, "make it readable"),
        (io::ErrorKind::InvalidData, "UTF-8"),
    ] {
        let flags = Serve { config: Some(PathBuf::from("node.toml")), ..Serve::default() };
        let problem = load(&flags, &[], |_| Err(kind.into())).unwrap_err().to_string();
        assert!(problem.contains("node.toml") && problem.contains(next), "{problem}");
    }
}

#[test]
fn mistakes_in_values_name_the_setting_and_what_to_write() {
    for (settings, expected) in [
        (&["node-id=x"][..], ["node.id (--set) is \"x\"", "whole number"]),
        (&["node-id=-1"], ["node.id (--set) is \"-1\"", "whole number"]),
        (&["data-dir="], ["chronik.data.dir (--set) is empty", "--data-dir"]),
        (&["listen=9092"], ["has no host", "127.0.0.1:9092"]),
        (&["listen=localhost"], ["has no port", "127.0.0.1:9092"]),
        (&["http=no"], ["has no port", "or off"]),
        (&["advertise=h:0"], ["the port 0", "name the port clients connect to"]),
        (&["chronik.bind=a:1"], ["which has a port", "CHRONIK_KAFKA_PORT"]),
        (&["chronik.kafka.port=x"], ["not a port", "0 to 65535"]),
        (&["chronik.log=inof"], ["no log filter", "debug"]),
        (&["log.retention.ms"], ["has no value", "--set KEY=VALUE"]),
        (&["num.partitions=1", "num.partitions=2"], ["\"1\" in --set and \"2\" in --set", "remove one"]),
        (&["log.retention.mz=1"], ["log.retention.mz", "did you mean log.retention.ms?"]),
        (&["log.retention.ms=soon"], ["log.retention.ms", "soon"]),
        (&["num.partitions=0"], ["num.partitions", "0"]),
        (&["listeners=PLAINTEXT://:9092"], ["listeners", "--listen"]),
        (&["log.dirs=/x"], ["log.dirs", "--data-dir"]),
        (&["ssl.keystore.location=/k.pem"], ["ssl.keystore.location", "--tls-cert FILE"]),
        (&["ssl.client.auth=required"], ["ssl.client.auth", "--tls-client-ca FILE"]),
        (&["tls-cert=/c.pem"], ["chronik.tls.cert (--set)", "--tls-key FILE"]),
        (&["retention.ms=5"], ["retention.ms", "log.retention.ms"]),
    ] {
        let problem = of_set(settings).unwrap_err();
        for part in expected {
            assert!(problem.contains(part), "{settings:?} lacks {part:?}: {problem}");
        }
    }
}

#[test]
fn contradictions_within_one_place_name_both() {
    let problem = of_variables(&[("CHRONIK_LISTEN", "a:1"), ("CHRONIK_BIND", "b")]).unwrap_err();
    assert!(problem.contains("CHRONIK_LISTEN") && problem.contains("CHRONIK_BIND"), "{problem}");
    let variables = [("CHRONIK_ADVERTISED_ADDR", "h:5"), ("CHRONIK_ADVERTISED_PORT", "6")];
    let problem = of_variables(&variables).unwrap_err();
    assert!(problem.contains("CHRONIK_ADVERTISED_PORT"), "{problem}");
    let flags = Serve { set: vec!["listen=b:1".to_owned()], ..listening("a:1") };
    let problem = of_flags(flags).unwrap_err();
    assert!(problem.contains("--listen") && problem.contains("--set"), "{problem}");
}

#[test]
fn every_broker_key_has_a_variable_of_its_own() {
    let mut keys_by_variable = BTreeMap::new();
    for key in kafka::keys().chain(names::NODE_KEYS.iter().map(|(key, _)| *key)) {
        if let Some(other) = keys_by_variable.insert(names::variable(key), key) {
            assert_eq!(other, key, "two keys share a variable");
        }
    }
}
