use super::*;

#[test]
fn an_agent_subject_gives_back_agent_and_method() {
    let prefix = Prefix::default();
    let subject = AgentGenerate(AgentName::new("CodeGenerator").unwrap()).name(&prefix);
    assert_eq!(subject, "llm.v1.agent.CodeGenerator.generate");
    assert_eq!(parse_agent_ingress(&prefix, &subject), Some(("CodeGenerator", "generate")));
    assert_eq!(parse_agent_ingress(&prefix, "llm.v1.agent.A.b.c"), None);
    assert_eq!(parse_agent_ingress(&prefix, "llm.v1.req.generate"), None);
}

#[test]
fn a_method_of_jobs_is_found_again_by_its_subjects_last_token() {
    let subject = CancelProviderJob(NodeId::new("mainpc").unwrap()).name(&Prefix::default());
    assert_eq!(subject, "llm.v1.provider-job.mainpc.cancel");
    let token = subject.rsplit('.').next().unwrap();
    assert_eq!(ProviderJobMethod::from_token(token), Some(ProviderJobMethod::Cancel));
}

#[test]
fn a_prefix_that_would_change_the_subject_is_refused() {
    for bad in ["", "a.b", "a*", ">", "a b", &"x".repeat(33)] {
        assert!(Prefix::new(bad).is_err(), "{bad:?} was accepted");
    }
}
