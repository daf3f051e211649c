//! Which pages may call from a browser: those of the configured origins, and no
//! other.

use axum::{
    extract::{Request, State},
    http::{
        HeaderName, HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
            ORIGIN, VARY,
        },
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::App;

pub(super) async fn cross_origin(State(app): State<App>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(ORIGIN).cloned();
    let allowed = origin.filter(|origin| {
        let origins = &app.config.allowed_origins;
        origins
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes())
    });
    let preflight = request.method() == Method::OPTIONS;
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    let Some(origin) = allowed else {
        return response;
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    if preflight {
        set(ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE");
        set(ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type");
        set(ACCESS_CONTROL_MAX_AGE, "600");
    } else {
        // A page that was refused knows when to come back.
        set(ACCESS_CONTROL_EXPOSE_HEADERS, "retry-after");
    }
    response
}
