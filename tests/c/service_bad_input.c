/*
 * What is no service, no call and no handle is refused, and then nothing of the program's is called.
 */
#include "support.h"

static void handle(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)data, (void)len, (void)user;
    CHECK_OK(ahoy_reply(call, NULL, 0));
}

static void never_free(void *user) {
    (void)user;
    CHECK(!"it was freed");
}

static void never_reply(ahoy_server from, ahoy_status status, const void *data, size_t len, void *user) {
    (void)from, (void)status, (void)data, (void)len, (void)user;
    CHECK(!"it was told");
}

static void no_services(ahoy_server server) {
    ahoy_offer offer = { 7 };
    const char *names[] = { "", "a.b", "a b", "a*", "ä",
                            "0123456789012345678901234567890123456789012345678901234567890123x" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK_STATUS(ahoy_service(server, names[i], NULL, handle, NULL, never_free, &offer), AHOY_ERR_INVALID);
        CHECK_STATUS(ahoy_call(server, names[i], NULL, 0, NULL, never_reply, NULL), AHOY_ERR_INVALID);
    }
    CHECK_STATUS(ahoy_service(server, NULL, NULL, handle, NULL, never_free, &offer), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_service(server, "a", NULL, NULL, NULL, never_free, &offer), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_service((ahoy_server){ 0 }, "a", NULL, handle, NULL, never_free, &offer), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_service((ahoy_server){ ~0ULL }, "a", NULL, handle, NULL, never_free, &offer), AHOY_ERR_STALE);
    ahoy_service_options options = { 0 };
    CHECK_STATUS(ahoy_service(server, "a", &options, handle, NULL, never_free, &offer), AHOY_ERR_SIZE);
    options.size = sizeof options, options.version = "one";
    CHECK_STATUS(ahoy_service(server, "a", &options, handle, NULL, never_free, &offer), AHOY_ERR_INVALID);
    char text[1026];
    memset(text, 'x', sizeof text - 1), text[sizeof text - 1] = 0;
    options.version = NULL, options.description = text;
    CHECK_STATUS(ahoy_service(server, "a", &options, handle, NULL, never_free, &offer), AHOY_ERR_TOO_LONG);
    CHECK_EQ(offer.id, 7);
}

static void no_calls(ahoy_server server) {
    ahoy_call_options options = { 0 };
    char buffer[4];
    size_t len = 77;
    CHECK_STATUS(ahoy_call(server, NULL, NULL, 0, NULL, never_reply, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_call(server, "a", NULL, 1, NULL, never_reply, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_call(server, "a", NULL, 0, NULL, NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_call(server, "a", NULL, 0, &options, never_reply, NULL), AHOY_ERR_SIZE);
    CHECK_STATUS(ahoy_call((ahoy_server){ 0 }, "a", NULL, 0, NULL, never_reply, NULL), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_call_wait(server, "a", NULL, 0, NULL, NULL, 4, &len), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_call_wait(server, "a", NULL, 3, NULL, buffer, 4, &len), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_call_wait(server, "a", NULL, 0, &options, buffer, 4, &len), AHOY_ERR_SIZE);
    CHECK_STATUS(ahoy_call_wait((ahoy_server){ 0 }, "a", NULL, 0, NULL, buffer, 4, &len), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_call_wait(server, "a", NULL, 0, NULL, buffer, 4, &len), AHOY_ERR_NO_SERVICE);
    CHECK_EQ(len, 77);
}

static void no_handles(void) {
    uint64_t forged[] = { 0, 1, 1000, ~0ULL };
    for (size_t i = 0; i < sizeof forged / sizeof *forged; i++) {
        CHECK_STATUS(ahoy_offer_end((ahoy_offer){ forged[i] }), AHOY_ERR_STALE);
        CHECK_STATUS(ahoy_reply((ahoy_incoming){ forged[i] }, "x", 1), AHOY_ERR_STALE);
        CHECK_STATUS(ahoy_reply_failed((ahoy_incoming){ forged[i] }, "x"), AHOY_ERR_STALE);
    }
    CHECK_STATUS(ahoy_reply((ahoy_incoming){ 0 }, NULL, 1), AHOY_ERR_NULL);
}

int main(void) {
    holdings before = holdings_now();
    ahoy_server server = start(OPTIONS(.workers = 1));
    no_services(server);
    no_calls(server);
    no_handles();
    ahoy_server_stop(server, 0);
    CHECK_OK(ahoy_server_wait(server));
    CHECK_STATUS(ahoy_service(server, "a", NULL, handle, NULL, never_free, NULL), AHOY_ERR_STOPPED);
    CHECK_STATUS(ahoy_call(server, "a", NULL, 0, NULL, never_reply, NULL), AHOY_ERR_STOPPED);
    CHECK_STATUS(ahoy_call_wait(server, "a", NULL, 0, NULL, NULL, 0, NULL), AHOY_ERR_STOPPED);
    ahoy_server_free(server);
    CHECK_STATUS(ahoy_service(server, "a", NULL, handle, NULL, never_free, NULL), AHOY_ERR_STALE);
    CHECK_HOLDINGS(before);
    return 0;
}
