//! What every operation may answer besides what its handler names, added to the description in one place: the refusals
//! of `limits.rs`, `extract.rs` and `idempotency.rs`, each as a problem document.
//!
//! Also what the readers of bodies hold everywhere: a member that is not described is refused.

use serde_json::{Value, json};

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];
/// The media type of RFC 9457.
const PROBLEM: &str = "application/problem+json";

/// Completes the description of all operations and bodies.
pub fn complete(description: &mut Value) {
    if let Some(paths) = description["paths"].as_object_mut() {
        for (path, item) in paths {
            let operations = item.as_object_mut().into_iter().flatten();
            for (_, operation) in operations.filter(|(method, _)| METHODS.contains(&method.as_str())) {
                complete_operation(path, operation);
            }
        }
    }
    if let Some(schemas) = description["components"]["schemas"].as_object_mut() {
        for (_, schema) in schemas.iter_mut().filter(|(name, _)| name.ends_with("Body")) {
            schema["additionalProperties"] = Value::Bool(false);
        }
    }
}

/// The forms of header values, as `idempotency.rs` and `extract.rs` read them.
const HEADER_FORMS: [(&str, &str, &str); 2] = [
    (
        "Idempotency-Key",
        r##"^([!#-~]([ -~]{0,253}[!-~])?|"([ !#-\[\]-~]|\\["\\]){1,255}")$"##,
        "1 to 255 visible ASCII characters, bare or quoted",
    ),
    ("If-Match", r##"^(\*|(W/)?"[!#-+\--~]*"(, ?(W/)?"[!#-+\--~]*")*)$"##, "The entity's ETag, or `*`"),
];

fn complete_operation(path: &str, operation: &mut Value) {
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        let form = HEADER_FORMS.iter().find(|(name, _, _)| parameter["name"] == *name);
        if let Some((_, pattern, about)) = form {
            parameter["schema"]["pattern"] = json!(pattern);
            parameter["description"] = json!(about);
        }
    }
    let common = common(path, operation);
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, what) in common {
        responses.entry(status).or_insert_with(|| json!({"description": what}));
    }
    for (status, response) in responses {
        let is_page = response["content"].get("text/html").is_some();
        if status.as_str() >= "400" && !is_page {
            response["content"] = json!({PROBLEM: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}});
        }
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = json!(meaning(status));
        }
    }
}

/// The refusals of everything that stands before a handler.
fn common(path: &str, operation: &Value) -> Vec<(&'static str, &'static str)> {
    let has = |place: &str| {
        let parameters = operation["parameters"].as_array();
        parameters.is_some_and(|parameters| parameters.iter().any(|parameter| parameter["in"] == place))
    };
    // A call under an Idempotency-Key may carry an empty object even where no body is described.
    let takes_body = operation.get("requestBody").is_some() || has("header");
    let secured = operation.get("security").is_some();
    let probe = matches!(path, "/healthz" | "/readyz" | "/metrics");
    let mut codes = vec!["400", "408", "413"];
    codes.extend(secured.then_some(["401", "403", "429"]).into_iter().flatten());
    codes.extend(has("path").then_some("404"));
    codes.extend(takes_body.then_some(["409", "415", "422"]).into_iter().flatten());
    codes.extend(has("query").then_some("422"));
    codes.extend((!probe).then_some("503"));
    codes.into_iter().map(|code| (code, meaning(code))).collect()
}

/// In a few words, for descriptions that say nothing themselves.
fn meaning(status: &str) -> &'static str {
    const MEANINGS: [(&str, &str); 19] = [
        ("200", "Done"),
        ("201", "Made"),
        ("400", "Not valid HTTP or JSON, or a header is missing"),
        ("401", "No valid bearer token"),
        ("403", "Another role's call"),
        ("404", "Nothing here, or not the caller's"),
        ("408", "The body did not arrive in time"),
        ("409", "Not possible in this state, or the first call under this key still runs"),
        ("410", "No longer valid"),
        ("412", "It has changed since"),
        ("413", "The body is too large"),
        ("415", "The body is not application/json"),
        ("422", "The request has faults; `errors` names each"),
        ("428", "If-Match is missing"),
        ("429", "Too many calls; see Retry-After"),
        ("500", "A fault of ours; it is not known whether the request took effect"),
        ("501", "Not supported"),
        ("503", "This node is at its limit, or the outcome is unknown; see Retry-After and `outcome`"),
        ("default", "Any other outcome"),
    ];
    MEANINGS.iter().find(|(code, _)| *code == status).map_or("Refused", |(_, meaning)| meaning)
}

/// Members of the description that an operation refers to but that are not there.
#[cfg(test)]
fn dangling(description: &Value) -> Vec<String> {
    fn walk(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(target)) = members.get("$ref") {
                    found.push(target.clone());
                }
                members.values().for_each(|member| walk(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut found = Vec::new();
    walk(description, &mut found);
    found.retain(|target| description.pointer(target.trim_start_matches('#')).is_none());
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_tells_of_its_refusals_as_problem_documents() {
        let mut description = json!({
            "paths": {"/b": {"get": {"responses": {}}}, "/a/{id}": {"post": {
                "security": [{"bearer": []}],
                "parameters": [{"in": "path", "name": "id"}],
                "requestBody": {},
                "responses": {"201": {"description": ""}, "409": {"description": "Taken",
                    "content": {"application/json": {}}}}}}},
            "components": {"schemas": {"ABody": {"type": "object"}, "AView": {}, "ProblemDocument": {}}},
        });
        complete(&mut description);
        let responses = &description["paths"]["/a/{id}"]["post"]["responses"];
        for status in ["400", "401", "403", "404", "408", "409", "413", "415", "422", "429", "503"] {
            assert!(responses[status]["content"].get(PROBLEM).is_some(), "{status}: {responses}");
        }
        assert_eq!(responses["409"]["description"], "Taken");
        assert_eq!(responses["201"], json!({"description": "Made"}));
        assert_eq!(description["components"]["schemas"]["ABody"]["additionalProperties"], false);
        assert!(description["components"]["schemas"]["AView"].get("additionalProperties").is_none());
        assert!(description["paths"]["/b"]["get"].get("parameters").is_none(), "nothing is added that was not there");
        assert_eq!(dangling(&description), Vec::<String>::new());
    }
}
