//! The Dockerfile and the compose file keep to what makes a container safe to run.

const DOCKERFILE: &str = include_str!("../../docker/Dockerfile");
const COMPOSE: &str = include_str!("../../docker/compose.yaml");
const IGNORED: &str = include_str!("../../.dockerignore");

#[test]
fn the_image_starts_from_pinned_bases_and_ends_on_an_empty_root() {
    let instructions = instructions();

    let bases = named(&instructions, "FROM");
    let build = named(&instructions, "ARG").find(|arg| arg.starts_with("BUILD_IMAGE="));

    assert_eq!(bases.last(), Some("scratch"));
    assert!(build.is_some_and(is_pinned), "{build:?}");
}

#[test]
fn the_image_runs_as_nobody_in_particular() {
    let instructions = instructions();

    let user = named(&instructions, "USER").last();

    assert_eq!(user, Some("65532:65532"));
}

#[test]
fn what_docker_starts_is_started_without_a_shell() {
    let instructions = instructions();

    let entry = named(&instructions, "ENTRYPOINT").last();
    let health = named(&instructions, "HEALTHCHECK").last();

    assert_eq!(entry, Some(r#"["/chaturdata-proxy"]"#));
    assert!(
        health
            .is_some_and(|health| health.ends_with(r#"CMD ["/chaturdata-proxy", "healthcheck"]"#))
    );
}

#[test]
fn the_image_is_built_from_this_tree_alone() {
    let instructions = instructions();

    let fetched = named(&instructions, "ADD").next();
    let front_end = DOCKERFILE.contains("# syntax=");

    assert_eq!(fetched, None, "COPY cannot fetch");
    assert!(!front_end, "a named front end is pulled");
    assert_eq!(
        IGNORED.lines().find(|line| !line.starts_with('#')),
        Some("*")
    );
}

#[test]
fn no_key_is_written_into_the_image_or_the_compose_file() {
    let instructions = instructions();

    let baked: Vec<&str> = named(&instructions, "ENV")
        .chain(named(&instructions, "ARG"))
        .filter(|set| names_a_secret(set))
        .collect();
    let written: Vec<&str> = COMPOSE
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- ")?.split_once('='))
        .filter(|(name, value)| names_a_secret(name) && !value.starts_with("${"))
        .map(|(name, _)| name)
        .collect();

    assert!(baked.is_empty(), "{baked:?}");
    assert!(written.is_empty(), "{written:?}");
}

#[test]
fn the_proxys_container_can_neither_write_nor_gain_anything() {
    let proxy = service("chaturdata-proxy");

    assert!(proxy.contains("    read_only: true\n"), "{proxy}");
    assert!(proxy.contains("    cap_drop:\n      - ALL\n"), "{proxy}");
    assert!(proxy.contains("    security_opt:\n      - no-new-privileges:true\n"));
    assert!(!COMPOSE.contains("privileged: true"));
}

#[test]
fn compose_publishes_on_loopback_alone() {
    let ports: Vec<&str> = items_of("ports");

    assert_eq!(ports.len(), 2, "{ports:?}");
    for port in ports {
        assert!(port.starts_with("\"127.0.0.1:"), "{port}");
    }
}

#[test]
fn compose_names_a_version_of_every_image() {
    let images: Vec<&str> = COMPOSE
        .lines()
        .filter_map(|line| line.trim().strip_prefix("image: "))
        .collect();

    assert_eq!(images.len(), 2, "{images:?}");
    for image in images {
        assert!(is_pinned(image), "{image}");
    }
}

#[test]
fn the_image_and_the_compose_file_say_the_packages_version() {
    let version = env!("CARGO_PKG_VERSION");

    assert!(DOCKERFILE.contains(&format!("image.version=\"{version}\"")));
    assert!(COMPOSE.contains(&format!("image: chaturdata-proxy:{version}\n")));
}

#[test]
fn open_webui_reaches_the_proxy_by_a_name_that_the_proxy_allows() {
    let (proxy, chat) = (service("chaturdata-proxy"), service("open-webui"));

    assert!(proxy.contains("SERVER__ALLOWED_HOSTS=chaturdata-proxy\n"));
    assert!(chat.contains("OPENAI_API_BASE_URL=http://chaturdata-proxy:8484/v1\n"));
    assert!(chat.contains("ENABLE_FORWARD_USER_INFO_HEADERS=true\n"));
    assert!(chat.contains("condition: service_healthy\n"));
}

/// The Dockerfile's instructions, each on one line, without comments.
fn instructions() -> Vec<String> {
    let code: Vec<&str> = DOCKERFILE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let joined = code.join("\n").replace("\\\n", " ");
    joined.lines().map(str::to_owned).collect()
}

fn named<'a>(
    instructions: &'a [String],
    name: &'static str,
) -> impl DoubleEndedIterator<Item = &'a str> {
    instructions
        .iter()
        .filter_map(move |line| line.strip_prefix(name)?.strip_prefix(' '))
}

/// A service's lines of the compose file, up to the next key at its depth or above.
fn service(name: &str) -> String {
    COMPOSE
        .lines()
        .skip_while(|line| *line != format!("  {name}:"))
        .skip(1)
        .take_while(|line| line.is_empty() || line.starts_with("    "))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn items_of(key: &str) -> Vec<&'static str> {
    let mut inside = false;
    let mut items = Vec::new();
    for line in COMPOSE.lines().map(str::trim) {
        match line.strip_prefix("- ") {
            Some(item) if inside => items.push(item),
            Some(_) => {}
            None => inside = line.strip_suffix(':') == Some(key),
        }
    }
    items
}

fn is_pinned(image: &str) -> bool {
    let tag = image.rsplit_once(':').map(|(_, tag)| tag);
    tag.is_some_and(|tag| tag.contains(|c: char| c.is_ascii_digit()))
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["KEY", "SECRET", "TOKEN", "PASSWORD"]
        .iter()
        .any(|word| name.contains(word))
}
