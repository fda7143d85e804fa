use std::time::Duration;

use axum::{
    extract::Request,
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::rpc::no_answer;

/// The one call that may take long: it waits until a new member has caught up, and bounds that itself.
const UNBOUNDED: &str = "/proofline.v1.Control/ChangeMembership";

/// Answers a call whose response has not begun within a time: a request that never arrives whole, or one that hangs. What is
/// streamed after the response has begun may take as long as it likes.
pub(super) async fn answer_within(within: Duration, request: Request, next: Next) -> Response {
    if request.uri().path() == UNBOUNDED {
        return next.run(request).await;
    }
    match tokio::time::timeout(within, next.run(request)).await {
        Ok(response) => response,
        Err(_) => no_answer(within).into_http::<axum::body::Body>().into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware, routing::post};
    use tower::ServiceExt as _;

    use super::*;

    async fn code(path: &str, handler: impl Future<Output = &'static str> + Clone + Send + Sync + 'static) -> Option<String> {
        let bounded = middleware::from_fn(|request, next| answer_within(Duration::from_millis(20), request, next));
        let routes = Router::new().route(path, post(move || handler.clone())).layer(bounded);
        let response = routes.oneshot(Request::post(path).body(Body::empty()).unwrap()).await.unwrap();
        response.headers().get("grpc-status").map(|code| code.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn a_call_that_hangs_is_answered() {
        assert_eq!(code("/proofline.v1.Audit/GetEntry", std::future::pending()).await.as_deref(), Some("4"));
    }

    #[tokio::test]
    async fn a_call_that_answers_is_left_alone() {
        assert_eq!(code("/proofline.v1.Audit/GetEntry", std::future::ready("")).await, None);
    }
}
