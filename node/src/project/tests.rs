use super::*;

/// Writes the skeleton with a module in place.
fn skeleton() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("greet-people");
    create(&folder).unwrap();
    fs::write(folder.join("module.wasm"), b"\0asm\x01\0\0\0").unwrap();
    (directory, folder)
}

fn refused(folder: &Path) -> String {
    Project::load(folder).expect_err("accepted").to_string()
}

#[test]
fn a_new_project_loads() {
    let (_directory, folder) = skeleton();
    let project = Project::load(&folder).unwrap();
    assert_eq!(project.manifest.label(), "greet-people@0.1.0");
    assert_eq!(project.manifest.name, "Greet people");
    assert_eq!(project.manifest.requirements.ram_mb, 64);
    assert_eq!(project.module.len(), 8);
    assert_eq!(project.cases.len(), 1);
    assert!(
        matches!(&project.cases[0].expected, Expected::Result(data) if data["greeting"] == "Hello, world!")
    );
}

#[test]
fn a_folder_with_content_or_a_bad_name_is_left_alone() {
    let (directory, folder) = skeleton();
    assert!(create(&folder).unwrap_err().to_string().contains("not empty"));
    let bad = directory.path().join("Not a slug");
    assert!(create(&bad).unwrap_err().to_string().contains("slug"));
    assert!(!bad.exists());
}

#[test]
fn every_refusal_names_the_field() {
    let (_directory, folder) = skeleton();
    let good = fs::read_to_string(folder.join(FILE)).unwrap();
    let long = format!("description = \"{}\"", "x".repeat(2_001));
    let changes = [
        ("name = \"Greet people\"", "", "name"),
        ("name = \"Greet people\"", "name = \"\"", "name"),
        ("slug = \"greet-people\"", "slug = \"Greet\"", "slug"),
        ("version = \"0.1.0\"", "version = \"1\"", "version"),
        ("description = \"Greets whoever is named.\"", &long, "description"),
        ("runtime_type = \"wasm\"", "runtime_type = \"java\"", "runtime_type"),
        ("runtime_type = \"wasm\"", "runtime_type = \"container\"", "module"),
        ("module = \"module.wasm\"", "", "module"),
        ("module = \"module.wasm\"", "module = \"../module.wasm\"", "module"),
        ("module = \"module.wasm\"", "module = \"/etc/hostname\"", "module"),
        ("module = \"module.wasm\"", "module = \"none.wasm\"", "none.wasm"),
        ("input_schema = \"input.schema.json\"", "input_schema = \"\"", "input_schema"),
        ("output_schema = \"output.schema.json\"", "", "output_schema"),
        ("output_schema = \"output.schema.json\"", "output_schema = \"cargo.toml\"", "cargo.toml"),
        ("price_per_job = \"0.01\"", "", "price"),
        ("price_per_job = \"0.01\"", "price_per_job = 0.01", "price_per_job"),
        ("price_per_job = \"0.01\"", "price_per_job = \"-1\"", "price_per_job"),
        ("revenue_share = 70", "revenue_share = 81", "revenue_share"),
        ("tags = []", "tags = [\"\"]", "tags"),
        ("tags = []", "colour = 1", "colour"),
        ("tags = []", "category = \"\"", "category"),
        ("required_cpu_cores = 1", "required_cpu_cores = 0", "required_cpu_cores"),
        ("required_ram_mb = 64", "ram = 64", "ram"),
    ];
    for (old, new, field) in changes {
        assert!(good.contains(old), "{old}");
        fs::write(folder.join(FILE), good.replace(old, new)).unwrap();
        let message = refused(&folder);
        assert!(message.contains(field), "{old} -> {new}: {message}");
    }
}

#[test]
fn schemas_modules_and_cases_are_checked_too() {
    let (_directory, folder) = skeleton();
    let cases = [
        ("input.schema.json", "[]", "input_schema"),
        ("input.schema.json", "{", "input.schema.json"),
        ("output.schema.json", "\"x\"", "output_schema"),
        ("module.wasm", "", "artifact"),
        ("cases/hello.json", "{\"input\": 1, \"result\": null}", "cases/hello.json"),
        ("cases/hello.json", "{\"input\": {}}", "exactly one"),
        ("cases/hello.json", "{\"input\": {}, \"result\": 1, \"error\": \"x\"}", "exactly one"),
        ("cases/hello.json", "{\"input\": {}, \"output\": 1}", "output"),
    ];
    for (name, text, expected) in cases {
        let good = fs::read(folder.join(name)).unwrap();
        fs::write(folder.join(name), text).unwrap();
        let message = refused(&folder);
        assert!(message.contains(expected), "{name} {text}: {message}");
        fs::write(folder.join(name), good).unwrap();
    }
    fs::write(folder.join("cases/hello.json"), "{\"input\": {}, \"result\": null}").unwrap();
    let project = Project::load(&folder).unwrap();
    assert_eq!(project.cases[0].expected, Expected::Result(serde_json::Value::Null));
}

#[test]
fn models_and_images_need_their_own_fields() {
    let (_directory, folder) = skeleton();
    let good = fs::read_to_string(folder.join(FILE)).unwrap();
    let with = |lines: &str| {
        let text = good
            .replace("runtime_type = \"wasm\"\n", &format!("{lines}\n"))
            .replace("module = \"module.wasm\"\n", "");
        fs::write(folder.join(FILE), text).unwrap();
        Project::load(&folder)
    };
    let digest = format!("sha256:{}", "ab".repeat(32));
    let image = format!("container_image = \"registry/x\"\nimage_digest = \"{digest}\"");
    assert!(with(&image).is_ok(), "container is the default");
    assert!(with("container_image = \"x\"").unwrap_err().to_string().contains("image_digest"));
    let model =
        with("runtime_type = \"onnx\"\nartifact = \"hf://a/b\"\ntask_type = \"ner\"").unwrap();
    assert!(model.module.is_empty());
    assert!(with("runtime_type = \"onnx\"").unwrap_err().to_string().contains("artifact"));
    let sha = "runtime_type = \"llmcpp\"\nartifact = \"hf://a/b\"\nsha256 = \"ab\"";
    assert!(with(sha).unwrap_err().to_string().contains("sha256"));
}
