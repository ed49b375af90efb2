/*
 * A watch: first what is there, then "that was all", then each change in order. It may end itself, be ended by others, by the
 * handle's close or by the server; on_free comes exactly once, and nothing after it. Keys whose time has passed are told.
 * Who is slow gets the last value of each key.
 */
#include "support.h"

#include <unistd.h>

enum { KEYS = 6000, ROUNDS = 3, WRITERS = 3, EACH = 2000 };

static ahoy_server server;
static ahoy_kv kv;

typedef struct eye {
    latch puts, deletes, caught_up, freed, gate;
    uint64_t last;               /* of all changes after the first part */
    _Atomic uint64_t revisions[KEYS]; /* by key, a number */
    atomic_int values[KEYS];
    long until;                  /* ends itself at this change; 0: never */
    bool waits;                  /* at the gate, at each call */
    atomic_bool inside;
    ahoy_watch watch;
} eye;

#define EYE_INIT                                                                                     \
    { .puts = LATCH_INIT, .deletes = LATCH_INIT, .caught_up = LATCH_INIT, .freed = LATCH_INIT,       \
      .gate = LATCH_INIT }

static void free_eye(void *user) {
    eye *eye = user;
    CHECK(!eye->inside);
    CHECK_EQ(latch_count(&eye->freed), 0);
    latch_add(&eye->freed, 1);
}

static void on_change(ahoy_kv of, ahoy_status status, const ahoy_kv_entry *entry, void *user) {
    eye *eye = user;
    CHECK_OK(status);
    CHECK_EQ(of.id, kv.id);
    CHECK(!eye->inside);
    eye->inside = true;
    CHECK_EQ(latch_count(&eye->freed), 0);
    if (eye->waits) latch_wait(&eye->gate, 1);
    if (!entry) {
        CHECK_EQ(latch_count(&eye->caught_up), 0);
        eye->inside = false;
        latch_add(&eye->caught_up, 1);
        return;
    }
    int key = atoi(entry->key);
    CHECK(key >= 0 && key < KEYS);
    CHECK(entry->revision > eye->revisions[key]);
    eye->revisions[key] = entry->revision;
    bool is_put = entry->operation == AHOY_KV_PUT;
    eye->values[key] = is_put ? atoi(entry->value) : -1;
    long count = latch_count(&eye->puts) + latch_count(&eye->deletes) + 1;
    CHECK(eye->until == 0 || count <= eye->until);
    if (count == eye->until) CHECK_OK(ahoy_kv_unwatch(eye->watch));
    eye->inside = false;
    latch_add(is_put ? &eye->puts : &eye->deletes, 1);
}

static void watch(eye *eye, const char *prefix) {
    CHECK_OK(ahoy_kv_watch(kv, prefix, 0, on_change, eye, free_eye, &eye->watch));
    CHECK(eye->watch.id != 0);
}

static void put(int key, int value, uint64_t ttl_ms) {
    char name[16], text[16];
    snprintf(name, sizeof name, "%d", key);
    snprintf(text, sizeof text, "%d", value);
    ahoy_kv_put_options options = { .size = sizeof options, .ttl_ms = ttl_ms };
    CHECK_OK(ahoy_kv_put_wait(kv, name, 0, text, strlen(text), &options, NULL));
}

static void drop(int key) {
    char name[16];
    snprintf(name, sizeof name, "%d", key);
    CHECK_OK(ahoy_kv_delete_wait(kv, name, 0, 0));
}

static void present_then_changes(void) {
    static eye all = EYE_INIT, ones = EYE_INIT;
    for (int key = 0; key < 20; key++) put(key, key, 0);
    drop(5);
    watch(&all, NULL), watch(&ones, "1");
    latch_wait(&all.caught_up, 1), latch_wait(&ones.caught_up, 1);
    CHECK_EQ(latch_count(&all.puts), 19);
    CHECK_EQ(latch_count(&ones.puts), 11); /* 1, 10 to 19 */
    put(100, 7, 0), put(200, 8, 0), drop(100);
    latch_wait(&ones.deletes, 1), latch_wait(&all.deletes, 1), latch_wait(&all.puts, 20);
    CHECK(latch_count(&ones.puts) <= 12);
    CHECK_EQ(all.values[200], 8);
    CHECK_EQ(all.values[100], -1);
    CHECK_OK(ahoy_kv_unwatch(ones.watch));
    latch_wait(&ones.freed, 1);
    CHECK_STATUS(ahoy_kv_unwatch(ones.watch), AHOY_ERR_STALE);
    put(1, 9, 0);
    WAIT_UNTIL(all.values[1] == 9);
    CHECK(ones.values[1] != 9);
    CHECK_OK(ahoy_kv_unwatch(all.watch));
    latch_wait(&all.freed, 1);
}

/* A key's own time, and another change before it. */
static void time_passes(void) {
    static eye eye = EYE_INIT;
    watch(&eye, "30");
    latch_wait(&eye.caught_up, 1);
    long begin = now_ms();
    put(300, 1, 80), put(301, 1, 40), put(301, 2, 0), put(302, 1, 3600000);
    latch_wait(&eye.deletes, 1);
    CHECK(now_ms() - begin >= 80);
    CHECK_EQ(eye.values[300], -1);
    CHECK_EQ(eye.values[301], 2);
    CHECK_STATUS(ahoy_kv_get_wait(kv, "300", 0, NULL, 0, NULL, NULL), AHOY_ERR_NO_KEY);
    CHECK_OK(ahoy_kv_create_wait(kv, "300", 0, "3", 1, NULL, NULL));
    CHECK_OK(ahoy_kv_unwatch(eye.watch));
    latch_wait(&eye.freed, 1);
}

static void *write_all(void *seed) {
    for (long i = rounds(EACH); i > 0; i--) {
        int key = (int)((i * 7 + (long)seed) % 50);
        if (i % 11 == 0) drop(key); else put(key, (int)i, 0);
    }
    return NULL;
}

/* Many write; watches come and go, and end themselves. What stays knows the last of each key. */
static void while_many_write(void) {
    static eye stays = EYE_INIT, leaves[4] = { EYE_INIT, EYE_INIT, EYE_INIT, EYE_INIT };
    pthread_t threads[WRITERS];
    watch(&stays, NULL);
    for (long i = 0; i < WRITERS; i++) CHECK(!pthread_create(&threads[i], NULL, write_all, (void *)(i * 13)));
    for (int i = 0; i < 4; i++) {
        leaves[i].until = 10 + i;
        watch(&leaves[i], NULL);
    }
    for (int i = 0; i < 4; i++) latch_wait(&leaves[i].freed, 1);
    for (int i = 0; i < WRITERS; i++) CHECK(!pthread_join(threads[i], NULL));
    put(1000, 1, 0);
    WAIT_UNTIL(stays.values[1000] == 1);
    for (int key = 0; key < 50; key++) {
        char name[16], value[16] = "-1";
        snprintf(name, sizeof name, "%d", key);
        ahoy_status status = ahoy_kv_get_wait(kv, name, 0, value, sizeof value, NULL, NULL);
        CHECK(status == AHOY_OK || status == AHOY_ERR_NO_KEY);
        WAIT_UNTIL(stays.values[key] == atoi(value) || (status && stays.revisions[key] == 0));
    }
    CHECK_OK(ahoy_kv_unwatch(stays.watch));
    latch_wait(&stays.freed, 1);
}

/* More keys change than may wait. */
static void slow(void) {
    static eye slow = EYE_INIT;
    slow.waits = true;
    watch(&slow, NULL);
    for (int round = 1; round <= ROUNDS; round++)
        for (int key = 0; key < KEYS; key++) put(key, round, 0);
    drop(KEYS - 1);
    latch_add(&slow.gate, 1);
    WAIT_UNTIL(slow.values[KEYS - 1] == -1 && slow.values[KEYS - 2] == ROUNDS);
    for (int key = 0; key < KEYS - 1; key++) WAIT_UNTIL(slow.values[key] == ROUNDS);
    CHECK(latch_count(&slow.puts) < KEYS * ROUNDS);
    CHECK_OK(ahoy_kv_unwatch(slow.watch));
    latch_wait(&slow.freed, 1);
}

int main(void) {
    deadline_seconds(120);
    holdings before = holdings_now();
    server = start(OPTIONS(.workers = 2));
    CHECK_OK(ahoy_kv_open(server, "bucket", NULL, &kv));
    present_then_changes(), time_passes(), while_many_write();
    slow();

    /* The handle's close ends its watches; the server's end those that are left. */
    static eye closed = EYE_INIT, left = EYE_INIT;
    watch(&closed, NULL);
    latch_wait(&closed.caught_up, 1);
    CHECK_OK(ahoy_kv_close(kv));
    latch_wait(&closed.freed, 1);
    CHECK_STATUS(ahoy_kv_watch(kv, NULL, 0, on_change, &left, free_eye, NULL), AHOY_ERR_STALE);
    CHECK_EQ(latch_count(&left.freed), 0);
    CHECK_OK(ahoy_kv_open(server, "bucket", NULL, &kv));
    watch(&left, NULL);
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&left.freed), 1);
    CHECK_STATUS(ahoy_kv_unwatch(left.watch), AHOY_ERR_STALE);
    CHECK_HOLDINGS(before);
    return 0;
}
