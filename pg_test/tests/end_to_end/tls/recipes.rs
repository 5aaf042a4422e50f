//! The recipes of docs/tls.md, tried: commands, configuration of the broker and settings are those of the page, but for
//! names and places. Every host is this machine, whose ports are taken as they come, and files lie in one folder.

use std::fs;
use std::sync::{Arc, LazyLock};

use pg_test::{
    Authority, CertificateFiles, Fixture, RabbitMq, Shutdown, Subject, Testbed, TlsListener,
    ordinary_user, wait_until_confirmed,
};
use postgres::Client;

use super::ground::{arrive, fixture, insert, stands_still, streams_at};

static PAGE: LazyLock<String> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tls.md");
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"))
});

const PASSWORD: &str = "that-of-the-recipes";

/// Where the page has its files.
const FOLDERS: [&str; 2] = ["/etc/postgresql", "/etc/rabbitmq"];

/// What is below a heading of the page.
struct Recipe {
    heading: &'static str,
    text: &'static str,
}

impl Recipe {
    #[track_caller]
    fn below(heading: &'static str) -> Recipe {
        let start = format!("\n## {heading}\n");
        let (_, text) = PAGE.split_once(&start).unwrap_or_else(|| panic!("no heading {heading:?}"));
        Recipe { heading, text: text.split("\n## ").next().unwrap_or_default() }
    }

    /// The part that begins so, without that.
    #[track_caller]
    fn part(&self, beginning: &str) -> &'static str {
        let start = format!("\n```{beginning}\n");
        let found = self.text.split_once(&start).and_then(|(_, rest)| rest.split_once("```"));
        found.unwrap_or_else(|| panic!("{}: nothing begins with {beginning:?}", self.heading)).0
    }

    /// What is to be typed into a shell, line by line.
    fn commands(&self) -> &'static str {
        self.part("sh")
    }

    fn rabbitmq_conf(&self) -> &'static str {
        self.part("conf\n# rabbitmq.conf")
    }

    fn postgresql_conf(&self) -> &'static str {
        self.part("conf\n# postgresql.conf")
    }

    /// A setting that the page gives.
    fn setting(&self, name: &str) -> Option<&'static str> {
        let start = format!("{name} = '");
        self.postgresql_conf()
            .lines()
            .find_map(|line| line.strip_prefix(&start)?.strip_suffix('\''))
    }

    /// The page's settings for a broker at this port of this machine.
    fn settings(&self, files: &CertificateFiles, port: u16) -> Vec<String> {
        let host = self.setting("amqp.host").expect("the recipe names a host");
        assert!(self.setting("amqp.port").is_none(), "{}: not the usual port", self.heading);
        let conf = here(self.postgresql_conf(), files).replace(host, "localhost");
        conf.lines().map(str::to_owned).chain([format!("amqp.port = {port}")]).collect()
    }

    fn user(&self) -> &'static str {
        self.setting("amqp.username").expect("the recipe names a user")
    }

    /// Has the broker know the user that the settings name, and the virtual host.
    fn admit(&self, rabbitmq: &RabbitMq) {
        let user = self.user();
        rabbitmq.ctl(&["add_user", user, PASSWORD]);
        let vhost = self.setting("amqp.vhost");
        if let Some(vhost) = vhost {
            rabbitmq.ctl(&["add_vhost", vhost]);
        }
        rabbitmq.ctl(&["set_permissions", "-p", vhost.unwrap_or("/"), user, ".*", ".*", ".*"]);
    }
}

/// A text of the page, with the folder of these files for all folders.
fn here(text: &str, files: &CertificateFiles) -> String {
    let folder = files.path("").display().to_string();
    let folder = folder.trim_end_matches('/');
    FOLDERS.iter().fold(text.to_owned(), |text, other| text.replace(other, folder))
}

/// What a shell prints that runs these lines among the files.
#[track_caller]
fn shell(files: &CertificateFiles, lines: &str) -> String {
    let mut command = ordinary_user::command("sh");
    command.args(["-e", "-c", lines]).current_dir(files.path(""));
    let output = command.output().unwrap_or_else(|error| panic!("sh: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{lines}\n{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Files among which the password is.
fn with_password() -> CertificateFiles {
    let files = CertificateFiles::new();
    files.put("amqp_password", PASSWORD);
    files
}

/// A server of its own with these lines of configuration.
#[track_caller]
fn bed(rabbitmq: &Arc<RabbitMq>, settings: &[String]) -> Testbed {
    let lines: Vec<&str> = settings.iter().map(String::as_str).collect();
    Testbed::beside(rabbitmq, &lines)
}

/// A row comes to the broker over TLS, from this user.
#[track_caller]
fn assert_arrives(fixture: &Fixture<'_>, client: &mut Client, user: &str) {
    insert(client, 1);
    arrive(fixture, client, &[1]);
    assert_is_connected(&fixture.testbed.rabbitmq, client, user);
}

#[track_caller]
fn assert_is_connected(rabbitmq: &RabbitMq, client: &mut Client, user: &str) {
    streams_at(client, rabbitmq.tls_port());
    let connections = rabbitmq.ctl(&["list_connections", "--no-table-headers", "user", "ssl"]);
    let is_ours = |line: &str| line.split_whitespace().eq([user, "true"]);
    assert!(connections.lines().any(is_ours), "{connections}");
}

/// A broker that shows a certificate of this authority's.
fn broker_of(authority: &Authority, files: &CertificateFiles) -> Arc<RabbitMq> {
    let identity = authority.issue(Subject::server(&["localhost"]));
    Arc::new(RabbitMq::create_with_tls(&TlsListener::new(files, "broker", &identity)))
}

/// At first the machine believes others than the authority that signed the broker's certificate.
#[track_caller]
fn assert_cloud_is_reached(heading: &'static str) {
    let (recipe, files, authority) =
        (Recipe::below(heading), with_password(), Authority::new("known to all"));
    let rabbitmq = broker_of(&authority, &files);
    recipe.admit(&rabbitmq);
    let bed = bed(&rabbitmq, &recipe.settings(&files, rabbitmq.tls_port()));
    let (fixture, mut client) = fixture(&bed, "tls_cloud");
    stands_still(&mut client, 1, &["amqp.sslrootcert"]);
    drop(client);

    bed.postgres.stop(Shutdown::Fast);
    let machine = CertificateFiles::new();
    let known = machine.put("known.pem", authority.certificate());
    bed.postgres.start_with(&[("SSL_CERT_FILE", known.as_os_str())]);
    let mut client = bed.postgres.connect(&fixture.database);
    wait_until_confirmed(&mut client);
    assert_is_connected(&rabbitmq, &mut client, recipe.user());
}

#[test]
fn the_recipe_for_cloudamqp_works() {
    assert_cloud_is_reached("CloudAMQP");
}

#[test]
fn the_recipe_for_amazon_mq_works() {
    assert_cloud_is_reached("Amazon MQ");
}

/// The cluster's part is played by a shell function that gives what the secret holds.
#[test]
fn the_recipe_for_an_operator_s_own_authority_works() {
    let recipe = Recipe::below("A Kubernetes operator with a CA of its own");
    let (files, authority) = (with_password(), Authority::new("of the cluster"));
    files.put("secret", authority.certificate());
    let kubectl = r#"kubectl() { [ "$*" = 'get secret rabbitmq-tls -o jsonpath={.data.ca\.crt}' ] && base64 secret; }"#;
    shell(&files, &format!("{kubectl}\n{}", here(recipe.commands(), &files)));
    let rabbitmq = broker_of(&authority, &files);
    recipe.admit(&rabbitmq);
    let bed = bed(&rabbitmq, &recipe.settings(&files, rabbitmq.tls_port()));
    let (fixture, mut client) = fixture(&bed, "tls_operator");
    assert_arrives(&fixture, &mut client, recipe.user());
}

/// Files as OpenSSL makes them.
fn made_by_openssl() -> CertificateFiles {
    let (recipe, files) = (Recipe::below("A CA of your own"), with_password());
    let host = recipe.setting("amqp.host").expect("the recipe names a host");
    assert!(recipe.commands().contains(&format!("DNS:{host}")));
    let said = shell(&files, &recipe.commands().replace(host, "localhost"));
    assert_eq!(said, "broker.crt: OK\ncdc.crt: OK\n");
    files
}

/// A broker with the page's configuration.
fn broker_with(recipe: &Recipe, files: &CertificateFiles, plugins: &[&str]) -> Arc<RabbitMq> {
    let conf = here(recipe.rabbitmq_conf(), files);
    const LISTENER: &str = "listeners.ssl.default = 5671\n";
    assert!(conf.contains(LISTENER), "{conf}");
    let conf = |port: u16| conf.replace(LISTENER, &format!("listeners.ssl.1 = 127.0.0.1:{port}\n"));
    Arc::new(RabbitMq::create_with_conf(plugins, conf))
}

#[test]
fn the_recipe_for_an_authority_of_one_s_own_works() {
    let (recipe, files) = (Recipe::below("A CA of your own"), made_by_openssl());
    let rabbitmq = broker_with(&recipe, &files, &[]);
    recipe.admit(&rabbitmq);
    let bed = bed(&rabbitmq, &recipe.settings(&files, rabbitmq.tls_port()));
    let (fixture, mut client) = fixture(&bed, "tls_own_authority");
    assert_arrives(&fixture, &mut client, recipe.user());
}

#[test]
fn the_recipe_for_a_certificate_in_place_of_the_password_works() {
    let (recipe, files) =
        (Recipe::below("A certificate in place of the password"), made_by_openssl());
    let said = |program: &str| {
        let lines = recipe.commands().lines().filter_map(move |line| line.strip_prefix(program));
        lines.collect::<Vec<_>>()
    };
    let plugins = said("rabbitmq-plugins enable ");
    assert_eq!(plugins.len() + said("rabbitmqctl ").len(), recipe.commands().lines().count());
    let rabbitmq = broker_with(&recipe, &files, &plugins);
    for arguments in said("rabbitmqctl ") {
        // The fixture's exchange, too.
        let arguments =
            shell(&files, &format!("printf '%s\\n' {arguments}")).replace("pg-messaging", ".*");
        rabbitmq.ctl(&arguments.lines().collect::<Vec<_>>());
    }
    let bed = bed(&rabbitmq, &recipe.settings(&files, rabbitmq.tls_port()));
    let (fixture, mut client) = fixture(&bed, "tls_in_place_of_password");
    assert_arrives(&fixture, &mut client, "cdc");
}
