use super::*;

fn studio(base_url: &str) -> Gemini {
    Gemini::ai_studio("google".to_owned(), Url::parse(base_url).unwrap())
}

fn url(gemini: &Gemini, model: &str, method: Method) -> String {
    gemini.url(model, method).unwrap().to_string()
}

#[test]
fn the_gemini_api_has_its_addresses() {
    let gemini = studio("https://generativelanguage.googleapis.com/v1beta/");
    let base = "https://generativelanguage.googleapis.com/v1beta";
    assert_eq!(
        url(&gemini, "gemini-3.5-flash", Method::Generate),
        format!("{base}/models/gemini-3.5-flash:generateContent")
    );
    assert_eq!(
        url(&gemini, "models/gemini-3.5-flash", Method::Stream),
        format!("{base}/models/gemini-3.5-flash:streamGenerateContent?alt=sse")
    );
    assert_eq!(
        url(&gemini, "tunedModels/mine", Method::EmbedBatch),
        format!("{base}/tunedModels/mine:batchEmbedContents")
    );
}

#[test]
fn a_models_name_cannot_lead_elsewhere() {
    let gemini = studio("https://generativelanguage.googleapis.com/v1beta");
    for name in ["../../v1/files", "a/../../b", "x?key=1", "x#y", "//evil.example/x", "a b"] {
        let url = gemini.url(name, Method::Generate).unwrap();
        assert_eq!(url.host_str(), Some("generativelanguage.googleapis.com"), "{name}");
        assert!(url.path().starts_with("/v1beta/"), "{name} leads to {url}");
        assert_eq!((url.query(), url.fragment()), (None, None), "{name}");
    }
}

#[test]
fn each_location_has_its_host() {
    let at = |location: &str| Place { project: "p".to_owned(), location: location.to_owned() }.base_url();
    assert_eq!(at("global"), "https://aiplatform.googleapis.com/v1");
    assert_eq!(at("eu"), "https://aiplatform.eu.rep.googleapis.com/v1");
    assert_eq!(at("europe-west4"), "https://europe-west4-aiplatform.googleapis.com/v1");
}
