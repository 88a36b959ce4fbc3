use super::*;

#[test]
fn dollars_become_picodollars_without_rounding() {
    for (text, picodollars) in [
        ("2.50", 2_500_000),
        ("0", 0),
        ("0.0375", 37_500),
        ("0.000001", 1),
        ("15", 15_000_000),
        ("1.2500000000", 1_250_000),
        ("1000000", 1_000_000_000_000),
    ] {
        assert_eq!(Dollars::from(text).per_token(), Ok(Money::picodollars(picodollars)), "{text}");
    }
}

#[test]
fn what_is_no_exact_amount_is_refused() {
    for text in [
        "",
        ".",
        "1.",
        ".5",
        "-1",
        "+1",
        "1e3",
        "0.0000001",
        "1000000.000001",
        "NaN",
        "inf",
        "1,5",
        "1 0",
        "9".repeat(400).as_str(),
    ] {
        assert!(Dollars::from(text).per_token().is_err(), "{text:?} was accepted");
    }
}

const WRITES: Capabilities = Capabilities {
    generate: true,
    embed: false,
    translate: false,
    tools: false,
    vision: false,
    json_schema: false,
    reasoning: false,
    transcribe: false,
    speak: false,
};

#[test]
fn audio_has_a_price_by_time_by_the_character_or_by_tokens() {
    let checked =
        |text: &str, can: Capabilities| toml::from_str::<PriceSettings>(text).unwrap().check("price", can);
    let transcribes = Capabilities { transcribe: true, ..Capabilities::default() };
    let speaks = Capabilities { speak: true, ..Capabilities::default() };
    let hour = checked("audio_per_hour = \"0.36\"\naudio_minimum_seconds = 10", transcribes).unwrap();
    assert_eq!(hour.audio_hour, Some(Money::picodollars(360_000_000_000)));
    assert_eq!(hour.audio_minimum, Duration::from_secs(10));
    let missing = |text: &str, can| checked(text, can).unwrap_err().field;
    assert_eq!(missing("", transcribes), "price.input_per_million");
    assert_eq!(missing("input_per_million = 1", transcribes), "price.output_per_million");
    assert!(checked("characters_per_million = 15", speaks).is_ok());
    assert_eq!(missing("input_per_million = 1", speaks), "price.audio_output_per_million");
    assert!(checked("input_per_million = 1\naudio_output_per_million = 12", speaks).is_ok());
}

#[test]
fn a_number_in_the_file_is_what_was_written() {
    #[derive(Deserialize)]
    struct Setting {
        price: Dollars,
    }
    for (toml, picodollars) in
        [("price = 0.075", 75_000), ("price = 3", 3_000_000), ("price = \"0.1\"", 100_000)]
    {
        let setting: Setting = toml::from_str(toml).unwrap();
        assert_eq!(setting.price.per_token(), Ok(Money::picodollars(picodollars)), "{toml}");
    }
}

#[test]
fn a_model_priced_twice_or_not_at_all_is_an_error_with_its_place() {
    let row = "[[price]]\nprovider = \"p\"\nmodel = \"m\"\ninput_per_million = \"1\"\n";
    assert_eq!(Prices::parse(&format!("{row}{row}")).unwrap_err().field, "price[1].model");
    let priceless = "[[price]]\nprovider = \"p\"\nmodel = \"m\"\n";
    assert_eq!(Prices::parse(priceless).unwrap_err().field, "price[0].input_per_million");
    assert!(Prices::parse("[[price]]\nmodell = 1\n").is_err());
}

#[test]
fn a_batch_has_its_own_prices_or_none() {
    let parsed = |batch: &str| -> PriceSettings {
        toml::from_str(&format!("input_per_million = \"2\"\noutput_per_million = \"8\"\n{batch}")).unwrap()
    };
    assert_eq!(parsed("").check_batch("price", true), Ok(None), "half of the price is never assumed");
    let both = parsed("batch_input_per_million = \"1\"\nbatch_output_per_million = \"4\"");
    let price = both.check_batch("price", true).unwrap().unwrap();
    assert_eq!((price.input, price.output), (Money::picodollars(1_000_000), Money::picodollars(4_000_000)));
    let half = parsed("batch_input_per_million = \"1\"");
    assert_eq!(half.check_batch("price", true).unwrap_err().field, "price.batch_output_per_million");
    let other = parsed("batch_output_per_million = \"1\"");
    assert_eq!(other.check_batch("price", true).unwrap_err().field, "price.batch_input_per_million");
}

#[test]
fn long_prompts_have_prices_of_their_own_or_none() {
    let parsed = |long: &str| -> PriceSettings {
        toml::from_str(&format!(
            "input_per_million = \"1.25\"\noutput_per_million = \"10\"\nbatch_input_per_million = \"0.625\"\n\
             batch_output_per_million = \"5\"\n{long}"
        ))
        .unwrap()
    };
    assert_eq!(parsed("").check("price", WRITES).unwrap().long_prompt, None);
    let both = parsed(
        "long_prompt = { above_tokens = 200000, input_per_million = \"2.5\", output_per_million = \"15\", \
         batch_input_per_million = \"1.25\", batch_output_per_million = \"7.5\" }",
    );
    let long = both.check("price", WRITES).unwrap().long_prompt.unwrap();
    assert_eq!((long.above, long.input), (Tokens::new(200_000), Money::picodollars(2_500_000)));
    let batch = both.check_batch("price", true).unwrap().unwrap().long_prompt.unwrap();
    assert_eq!((batch.input, batch.output), (Money::picodollars(1_250_000), Money::picodollars(7_500_000)));
    for (wrong, field) in [
        ("above_tokens = 1", "price.above_tokens"),
        ("long_prompt = { input_per_million = \"1\" }", "price.long_prompt.above_tokens"),
        ("long_prompt = { above_tokens = 1 }", "price.long_prompt.input_per_million"),
        ("long_prompt = { above_tokens = 1, long_prompt = {} }", "price.long_prompt.long_prompt"),
    ] {
        assert_eq!(parsed(wrong).check("price", WRITES).unwrap_err().field, field, "{wrong}");
    }
    let half =
        parsed("long_prompt = { above_tokens = 1, input_per_million = \"1\", output_per_million = \"1\" }");
    let field = half.check_batch("price", true).unwrap_err().field;
    assert_eq!(field, "price.long_prompt.batch_input_per_million");
}

#[test]
fn the_price_file_of_the_repository_is_sound() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/prices.toml");
    let prices = Prices::load(&path).unwrap();
    let price = prices.get("openai", "gpt-4o-mini").unwrap().check("price", WRITES).unwrap();
    assert_eq!((price.input, price.output), (Money::picodollars(150_000), Money::picodollars(600_000)));
    let price = prices.get("anthropic", "claude-opus-5-5").unwrap().check("price", WRITES).unwrap();
    assert_eq!(price.cache_write, Some(Money::picodollars(5_000_000)));
    assert_eq!(price.cache_write_hour, Some(Money::picodollars(8_000_000)));
    let price = prices.get("anthropic", "claude-haiku-5-5").unwrap().check("price", WRITES).unwrap();
    let long = price.long_prompt.unwrap();
    assert_eq!((price.input, long.input), (Money::picodollars(100_000), Money::picodollars(500_000)));
    for ((_, model), price) in &prices.0 {
        let can = Capabilities {
            embed: model.contains("embed"),
            transcribe: model.contains("whisper") || model.contains("transcribe"),
            speak: model.contains("tts") || model.contains("orpheus"),
            ..Capabilities::default()
        };
        let writes = can == Capabilities::default();
        let can = if writes { WRITES } else { can };
        assert!(price.check(model, can).is_ok(), "{model} lacks a price");
        assert!(price.check_batch(model, writes).is_ok(), "{model} has half of a batch price");
    }
    assert!(prices.get("openai", "gpt-4o-mini").unwrap().check_batch("price", true).unwrap().is_some());
    let tuned = prices.get("openai", "gpt-4.1-mini-2025-04-14").unwrap();
    assert_eq!(tuned.check_training("price").unwrap(), Some(Money::picodollars(5_000_000)));
}
