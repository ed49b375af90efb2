/*
 * What is bounded in calls: those under way, those that one service has in hand, and the bytes that are kept to be sent again,
 * or wait for a worker. What is beyond is refused, or answered at once, and there is room again when others have ended.
 */
#include "support.h"

enum { CALLS_MAX = 65536, IN_HAND_DEFAULT = 1024, MIB = 1 << 20, MIB_MAX = 64 };

static ahoy_server server;
static ahoy_incoming kept[CALLS_MAX + 1];
static latch taken = LATCH_INIT, freed = LATCH_INIT, ok = LATCH_INIT, again = LATCH_INIT, gate = LATCH_INIT;
static char mebibyte[MIB];

static void keep(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)data, (void)len, (void)user;
    kept[latch_count(&taken)] = call;
    latch_add(&taken, 1);
}

/* The worker stands still until the gate opens. */
static void stand(ahoy_incoming call, const void *data, size_t len, void *user) {
    (void)data, (void)len, (void)user;
    latch_add(&taken, 1);
    latch_wait(&gate, 1);
    CHECK_OK(ahoy_reply(call, NULL, 0));
}

static void on_reply(ahoy_server from, ahoy_status status, const void *data, size_t len, void *user) {
    (void)from, (void)data, (void)len, (void)user;
    if (status) CHECK_STATUS(status, AHOY_ERR_AGAIN);
    latch_add(status ? &again : &ok, 1);
}

static void never(ahoy_kv kv, ahoy_status status, const ahoy_kv_entry *entry, void *user) {
    (void)kv, (void)status, (void)entry, (void)user;
    CHECK(false);
}

static ahoy_status call(size_t bytes, int idempotent) {
    ahoy_call_options options = { .size = sizeof options, .timeout_ms = 600000, .idempotent = idempotent };
    return ahoy_call(server, "s", mebibyte, bytes, &options, on_reply, NULL);
}

/* Offers the service anew, and counts anew. */
static ahoy_offer begin(ahoy_service_fn handler, uint32_t in_hand_max) {
    ahoy_service_options options = { .size = sizeof options, .in_hand_max = in_hand_max, .answer_ms = 600000 };
    ahoy_offer offer;
    taken = ok = again = freed = (latch)LATCH_INIT;
    CHECK_OK(ahoy_service(server, "s", &options, handler, &freed, count_free, &offer));
    return offer;
}

static void reply(long from, long to) {
    for (long i = from; i < to; i++) CHECK_OK(ahoy_reply(kept[i], NULL, 0));
    latch_wait(&ok, to);
}

static void end(ahoy_offer offer) {
    CHECK_OK(ahoy_offer_end(offer));
    latch_wait(&freed, 1);
}

/* The next one, as soon as there is room for it. */
static void call_when_there_is_room(size_t bytes, int idempotent) {
    ahoy_status status;
    /* The place of a call is free a moment after its end was told. */
    wait_begin(__FILE__, __LINE__, "there is room");
    while ((status = call(bytes, idempotent)) == AHOY_ERR_AGAIN) wait_moment();
    wait_end();
    CHECK_OK(status);
}

static void in_hand(void) {
    ahoy_offer offer = begin(keep, 0);
    for (int i = 0; i < IN_HAND_DEFAULT; i++) CHECK_OK(call(0, 0));
    latch_wait(&taken, IN_HAND_DEFAULT);
    for (int i = 0; i < 10; i++) CHECK_OK(call(0, 0));
    latch_wait(&again, 10);
    reply(0, 1);
    CHECK_OK(call(0, 0));
    latch_wait(&taken, IN_HAND_DEFAULT + 1);
    reply(1, IN_HAND_DEFAULT + 1);
    CHECK_EQ(latch_count(&again), 10);
    end(offer);
}

static void under_way(void) {
    ahoy_kv kv;
    CHECK_OK(ahoy_kv_open(server, "b", NULL, &kv));
    ahoy_offer offer = begin(keep, 2 * CALLS_MAX);
    for (int i = 0; i < CALLS_MAX; i++) CHECK_OK(call(0, 0));
    /* It is one bound for all that a program begins. */
    CHECK_STATUS(call(0, 0), AHOY_ERR_AGAIN);
    CHECK_STATUS(ahoy_call_wait(server, "s", NULL, 0, NULL, NULL, 0, NULL), AHOY_ERR_AGAIN);
    CHECK_STATUS(ahoy_kv_put(kv, "k", 0, "x", 1, NULL, never, NULL), AHOY_ERR_AGAIN);
    CHECK_STATUS(ahoy_kv_get_wait(kv, "k", 0, NULL, 0, NULL, NULL), AHOY_ERR_AGAIN);
    CHECK_STATUS(ahoy_queue_push_wait(server, "q", "x", 1, NULL), AHOY_ERR_AGAIN);
    latch_wait(&taken, CALLS_MAX);
    reply(0, 1);
    call_when_there_is_room(0, 0);
    latch_wait(&taken, CALLS_MAX + 1);
    reply(1, CALLS_MAX + 1);
    CHECK_EQ(latch_count(&again), 0);
    end(offer);
}

static void kept_to_be_sent_again(void) {
    ahoy_offer offer = begin(keep, 0);
    for (int i = 0; i < MIB_MAX; i++) {
        CHECK_OK(call(MIB, 1));
        latch_wait(&taken, i + 1);
    }
    CHECK_STATUS(call(1, 1), AHOY_ERR_AGAIN);
    /* What is not sent again is not kept. */
    CHECK_OK(call(MIB, 0));
    CHECK_OK(call(0, 1));
    latch_wait(&taken, MIB_MAX + 2);
    reply(0, 1);
    call_when_there_is_room(MIB, 1);
    latch_wait(&taken, MIB_MAX + 3);
    reply(1, MIB_MAX + 3);
    CHECK_EQ(latch_count(&again), 0);
    end(offer);
}

static void waiting_for_a_worker(void) {
    ahoy_offer offer = begin(stand, 0);
    CHECK_OK(call(0, 0));
    latch_wait(&taken, 1);
    for (int i = 0; i < MIB_MAX + 5; i++) CHECK_OK(call(MIB, 0));
    latch_add(&gate, 1);
    latch_wait(&ok, MIB_MAX + 1), latch_wait(&again, 5);
    CHECK_OK(call(MIB, 0));
    latch_wait(&ok, MIB_MAX + 2);
    end(offer);
}

int main(void) {
    holdings before = holdings_now();
    server = start(OPTIONS(.workers = 1));
    in_hand(), under_way(), kept_to_be_sent_again(), waiting_for_a_worker();
    ahoy_server_free(server);
    CHECK_HOLDINGS(before);
    return 0;
}
