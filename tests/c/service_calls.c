/*
 * A call is answered exactly once: with an answer, with a failure and its text, or with what became of it. The one who
 * answers may be the handler or any other thread, also after the offer has ended; a second answer is stale.
 */
#include "support.h"

#include <pthread.h>

static ahoy_server server;
static _Atomic uint64_t kept;
static latch taken = LATCH_INIT, freed = LATCH_INIT;

typedef struct outcome {
    latch told;
    ahoy_status status;
    char text[128];
    size_t len;
} outcome;
#define OUTCOME_INIT { .told = LATCH_INIT }

static void on_reply(ahoy_server from, ahoy_status status, const void *data, size_t len, void *user) {
    outcome *outcome = user;
    CHECK_EQ(from.id, server.id);
    CHECK_EQ(latch_count(&outcome->told), 0);
    outcome->status = status;
    outcome->len = len;
    snprintf(outcome->text, sizeof outcome->text, "%.*s", (int)len, (const char *)data);
    latch_add(&outcome->told, 1);
}

static void upper(ahoy_incoming call, const void *data, size_t len, void *user) {
    char text[64];
    CHECK(user == &freed && len < sizeof text);
    for (size_t i = 0; i < len; i++) text[i] = (char)(((const char *)data)[i] - 32);
    CHECK_OK(ahoy_reply(call, text, len));
    CHECK_STATUS(ahoy_reply(call, text, len), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_reply_failed(call, "again"), AHOY_ERR_STALE);
}

static void fail(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)data, (void)len, (void)user;
    CHECK_STATUS(ahoy_reply_failed(call, NULL), AHOY_ERR_NULL);
    char long_text[1026];
    memset(long_text, 'x', sizeof long_text - 1), long_text[sizeof long_text - 1] = 0;
    CHECK_STATUS(ahoy_reply_failed(call, long_text), AHOY_ERR_TOO_LONG);
    CHECK_OK(ahoy_reply_failed(call, "no such picture"));
}

/* Leaves the answer to others. */
static void keep(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)data, (void)len, (void)user;
    kept = call.id;
    latch_add(&taken, 1);
}

static ahoy_offer offer(const char *name, ahoy_service_options options, ahoy_service_fn handler) {
    ahoy_offer offer = { 0 };
    options.size = sizeof options;
    CHECK_OK(ahoy_service(server, name, &options, handler, &freed, count_free, &offer));
    CHECK(offer.id != 0);
    return offer;
}

static void end(ahoy_offer offer) {
    long count = latch_count(&freed);
    CHECK_OK(ahoy_offer_end(offer));
    latch_wait(&freed, count + 1);
    CHECK_STATUS(ahoy_offer_end(offer), AHOY_ERR_STALE);
}

static ahoy_status wait_for(const char *name, const char *text, char *answer, size_t capacity, size_t *len) {
    return ahoy_call_wait(server, name, text, strlen(text), NULL, answer, capacity, len);
}

static void answered(void) {
    char answer[8];
    size_t len = 0;
    ahoy_offer service = offer("upper", (ahoy_service_options){ 0 }, upper);
    CHECK_OK(wait_for("upper", "hello", answer, sizeof answer, &len));
    CHECK(len == 5 && memcmp(answer, "HELLO", 5) == 0);
    CHECK_OK(wait_for("upper", "", NULL, 0, &len));
    CHECK_EQ(len, 0);
    CHECK_OK(wait_for("upper", "exactly8", answer, 8, NULL));
    CHECK_STATUS(wait_for("upper", "ninebytes", answer, 8, &len), AHOY_ERR_TOO_LONG);
    CHECK_EQ(len, 9);

    outcome outcome = OUTCOME_INIT;
    CHECK_OK(ahoy_call(server, "upper", "hello", 5, NULL, on_reply, &outcome));
    latch_wait(&outcome.told, 1);
    CHECK_OK(outcome.status);
    CHECK_TEXT(outcome.text, "HELLO");
    end(service);
    CHECK_STATUS(wait_for("upper", "hello", answer, sizeof answer, &len), AHOY_ERR_NO_SERVICE);
}

static void failed(void) {
    ahoy_offer service = offer("fail", (ahoy_service_options){ 0 }, fail);
    outcome outcome = OUTCOME_INIT;
    CHECK_OK(ahoy_call(server, "fail", "hello", 5, NULL, on_reply, &outcome));
    latch_wait(&outcome.told, 1);
    CHECK_STATUS(outcome.status, AHOY_ERR_FAILED);
    CHECK_TEXT(outcome.text, "no such picture");
    CHECK_STATUS(wait_for("fail", "hello", NULL, 0, NULL), AHOY_ERR_FAILED);
    CHECK_TEXT(ahoy_last_error(), "no such picture");
    end(service);
}

static void nobody_there(void) {
    outcome outcome = OUTCOME_INIT;
    long began = now_ms();
    CHECK_OK(ahoy_call(server, "nobody", "hello", 5, NULL, on_reply, &outcome));
    latch_wait(&outcome.told, 1);
    CHECK_STATUS(outcome.status, AHOY_ERR_NO_SERVICE);
    CHECK(is_slow() || now_ms() - began < 2000);
}

static void busy(void) {
    ahoy_offer service = offer("busy", (ahoy_service_options){ .in_hand_max = 1 }, keep);
    outcome first = OUTCOME_INIT, second = OUTCOME_INIT, third = OUTCOME_INIT;
    CHECK_OK(ahoy_call(server, "busy", NULL, 0, NULL, on_reply, &first));
    latch_wait(&taken, 1);
    CHECK_OK(ahoy_call(server, "busy", NULL, 0, NULL, on_reply, &second));
    latch_wait(&second.told, 1);
    CHECK_STATUS(second.status, AHOY_ERR_AGAIN);
    CHECK_OK(ahoy_reply((ahoy_incoming){ kept }, "1", 1));
    latch_wait(&first.told, 1);
    CHECK_OK(first.status);
    /* There is room again. */
    CHECK_OK(ahoy_call(server, "busy", NULL, 0, NULL, on_reply, &third));
    latch_wait(&taken, 2);
    CHECK_OK(ahoy_reply((ahoy_incoming){ kept }, NULL, 0));
    latch_wait(&third.told, 1);
    CHECK_OK(third.status);
    CHECK_EQ(third.len, 0);
    end(service);
}

static void timed_out(void) {
    long before = latch_count(&taken);
    ahoy_offer service = offer("slow", (ahoy_service_options){ 0 }, keep);
    ahoy_call_options options = { .size = sizeof options, .timeout_ms = 60 };
    outcome outcome = OUTCOME_INIT;
    CHECK_OK(ahoy_call(server, "slow", NULL, 0, &options, on_reply, &outcome));
    latch_wait(&outcome.told, 1);
    CHECK_STATUS(outcome.status, AHOY_ERR_UNKNOWN_OUTCOME);
    latch_wait(&taken, before + 1);
    /* Nobody waits any more, but the call is still to be answered. */
    CHECK_OK(ahoy_reply((ahoy_incoming){ kept }, "late", 4));
    CHECK_STATUS(ahoy_reply((ahoy_incoming){ kept }, "late", 4), AHOY_ERR_STALE);
    end(service);
}

static void never_answered(void) {
    ahoy_offer service = offer("never", (ahoy_service_options){ .answer_ms = 30 }, keep);
    CHECK_STATUS(wait_for("never", "", NULL, 0, NULL), AHOY_ERR_FAILED);
    CHECK_STATUS(ahoy_reply((ahoy_incoming){ kept }, "late", 4), AHOY_ERR_STALE);
    end(service);
}

static void *reply_from_here(void *offer) {
    CHECK_OK(ahoy_offer_end(*(ahoy_offer *)offer));
    CHECK_OK(ahoy_reply((ahoy_incoming){ kept }, "late", 4));
    return NULL;
}

static void another_thread_after_the_end(void) {
    long before = latch_count(&taken);
    pthread_t thread;
    ahoy_offer service = offer("other", (ahoy_service_options){ 0 }, keep);
    outcome outcome = OUTCOME_INIT;
    CHECK_OK(ahoy_call(server, "other", "x", 1, NULL, on_reply, &outcome));
    latch_wait(&taken, before + 1);
    CHECK(!pthread_create(&thread, NULL, reply_from_here, &service));
    latch_wait(&outcome.told, 1);
    CHECK(!pthread_join(thread, NULL));
    CHECK_OK(outcome.status);
    CHECK_TEXT(outcome.text, "late");
}

/* Calls inside callbacks; waits there are refused. */
static void ask_further(ahoy_incoming call, const void *data, size_t len, void *user);

static void pass_on(ahoy_server from, ahoy_status status, const void *data, size_t len, void *user) {
    (void)from;
    CHECK_OK(status);
    CHECK_OK(ahoy_reply((ahoy_incoming){ (uint64_t)(uintptr_t)user }, data, len));
}

static void ask_further(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)user;
    CHECK_STATUS(wait_for("upper", "hello", NULL, 0, NULL), AHOY_ERR_DEADLOCK);
    CHECK_OK(ahoy_call(server, "upper", data, len, NULL, pass_on, (void *)(uintptr_t)call.id));
}

static void inside_callbacks(void) {
    char answer[8];
    size_t len;
    ahoy_offer first = offer("first", (ahoy_service_options){ 0 }, ask_further);
    ahoy_offer second = offer("upper", (ahoy_service_options){ 0 }, upper);
    CHECK_OK(wait_for("first", "hello", answer, sizeof answer, &len));
    CHECK(len == 5 && memcmp(answer, "HELLO", 5) == 0);
    end(first), end(second);
}

/* Two offers of the same name take turns. */
static latch first_taken = LATCH_INIT, second_taken = LATCH_INIT;

static void count_first(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)user;
    latch_add(&first_taken, 1);
    CHECK_OK(ahoy_reply(call, data, len));
}

static void count_second(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)user;
    latch_add(&second_taken, 1);
    CHECK_OK(ahoy_reply(call, data, len));
}

static void two_offers(void) {
    ahoy_offer first = offer("both", (ahoy_service_options){ 0 }, count_first);
    ahoy_offer second = offer("both", (ahoy_service_options){ 0 }, count_second);
    for (int i = 0; i < 100; i++) CHECK_OK(wait_for("both", "", NULL, 0, NULL));
    CHECK_EQ(latch_count(&first_taken) + latch_count(&second_taken), 100);
    CHECK(latch_count(&first_taken) > 20 && latch_count(&second_taken) > 20);
    end(first);
    CHECK_OK(wait_for("both", "", NULL, 0, NULL));
    end(second);
}

int main(void) {
    holdings before = holdings_now();
    server = start(OPTIONS(.workers = 2));
    answered();
    failed();
    nobody_there();
    busy();
    timed_out();
    never_answered();
    another_thread_after_the_end();
    inside_callbacks();
    two_offers();
    long count = latch_count(&freed);
    (void)offer("left", (ahoy_service_options){ 0 }, upper);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&freed), count + 1);
    CHECK_HOLDINGS(before);
    return 0;
}
