/*
 * Buckets of a server without a cluster: every call in both forms, keys of any bytes, conditions and revisions, bad input,
 * and that each function is called exactly once, on a worker.
 */
#include "support.h"

static ahoy_server server;
static ahoy_kv kv;

/* What a call came to. */
typedef struct answer {
    latch done;
    ahoy_status status;
    bool has_entry;
    uint64_t revision;
    int32_t operation;
    char value[64];
    size_t value_bytes;
    pthread_t caller;
} answer;

static void on_done(ahoy_kv of, ahoy_status status, const ahoy_kv_entry *entry, void *user) {
    answer *answer = user;
    CHECK(of.id != 0);
    CHECK(!pthread_equal(answer->caller, pthread_self()));
    CHECK_EQ(latch_count(&answer->done), 0);
    CHECK((entry != NULL) == (status == AHOY_OK));
    answer->status = status;
    if (entry) {
        CHECK_EQ(entry->size, sizeof *entry);
        CHECK_EQ(((const char *)entry->key)[entry->key_bytes], 0);
        CHECK_EQ(((const char *)entry->value)[entry->value_bytes], 0);
        answer->revision = entry->revision;
        answer->operation = entry->operation;
        answer->value_bytes = entry->value_bytes;
        snprintf(answer->value, sizeof answer->value, "%s", (const char *)entry->value);
    }
    /* What waits would wait for this very call. */
    CHECK_STATUS(ahoy_kv_get_wait(of, "a", 0, NULL, 0, NULL, NULL), AHOY_ERR_DEADLOCK);
    ahoy_kv other;
    CHECK_STATUS(ahoy_kv_open(server, "other", NULL, &other), AHOY_ERR_DEADLOCK);
    latch_add(&answer->done, 1);
}

#define ASKED(answer, call)                                                               \
    do {                                                                                  \
        answer = (struct answer){ .done = LATCH_INIT, .caller = pthread_self() };         \
        CHECK_OK(call);                                                                   \
        latch_wait(&answer.done, 1);                                                      \
    } while (0)

static uint64_t put(const char *key, const char *value) {
    uint64_t revision = 0;
    CHECK_OK(ahoy_kv_put_wait(kv, key, 0, value, strlen(value), NULL, &revision));
    return revision;
}

static void expect(const char *key, const char *value, uint64_t revision) {
    char got[64];
    size_t length;
    uint64_t is;
    CHECK_OK(ahoy_kv_get_wait(kv, key, 0, got, sizeof got, &length, &is));
    CHECK_TEXT(got, value);
    CHECK_EQ(length, strlen(value));
    CHECK_EQ(is, revision);
}

static void conditions(void) {
    uint64_t first = put("a", "one"), second, third;
    expect("a", "one", first);
    CHECK_STATUS(ahoy_kv_create_wait(kv, "a", 0, "x", 1, NULL, NULL), AHOY_ERR_KEY_EXISTS);
    CHECK_STATUS(ahoy_kv_update_wait(kv, "a", 0, "x", 1, first + 1, NULL, NULL), AHOY_ERR_REVISION);
    CHECK_STATUS(ahoy_kv_update_wait(kv, "none", 0, "x", 1, first, NULL, NULL), AHOY_ERR_REVISION);
    CHECK_OK(ahoy_kv_update_wait(kv, "a", 0, "two", 3, first, NULL, &second));
    CHECK(second > first);
    expect("a", "two", second);
    CHECK_STATUS(ahoy_kv_delete_wait(kv, "a", 0, first), AHOY_ERR_REVISION);
    CHECK_OK(ahoy_kv_delete_wait(kv, "a", 0, second));
    CHECK_STATUS(ahoy_kv_get_wait(kv, "a", 0, NULL, 0, NULL, NULL), AHOY_ERR_NO_KEY);
    CHECK_OK(ahoy_kv_delete_wait(kv, "a", 0, 0));
    CHECK_STATUS(ahoy_kv_update_wait(kv, "a", 0, "x", 1, second, NULL, NULL), AHOY_ERR_REVISION);
    CHECK_OK(ahoy_kv_create_wait(kv, "a", 0, "three", 5, NULL, &third));
    CHECK(third > second + 1);
    expect("a", "three", third);
    CHECK_OK(ahoy_kv_delete_wait(kv, "a", 0, 0));
}

static void called_back(void) {
    answer answer;
    ASKED(answer, ahoy_kv_create(kv, "b", 0, "one", 3, NULL, on_done, &answer));
    CHECK_STATUS(answer.status, AHOY_OK);
    CHECK_EQ(answer.value_bytes, 0);
    uint64_t first = answer.revision;
    ASKED(answer, ahoy_kv_create(kv, "b", 0, "one", 3, NULL, on_done, &answer));
    CHECK_STATUS(answer.status, AHOY_ERR_KEY_EXISTS);
    ASKED(answer, ahoy_kv_update(kv, "b", 0, "two", 3, first, NULL, on_done, &answer));
    CHECK_STATUS(answer.status, AHOY_OK);
    ASKED(answer, ahoy_kv_update(kv, "b", 0, "two", 3, first, NULL, on_done, &answer));
    CHECK_STATUS(answer.status, AHOY_ERR_REVISION);
    ASKED(answer, ahoy_kv_get(kv, "b", 0, on_done, &answer));
    CHECK_TEXT(answer.value, "two");
    CHECK(answer.revision > first);
    CHECK_EQ(answer.operation, AHOY_KV_PUT);
    ASKED(answer, ahoy_kv_put(kv, "b", 0, NULL, 0, NULL, on_done, &answer));
    ASKED(answer, ahoy_kv_get(kv, "b", 0, on_done, &answer));
    CHECK_EQ(answer.value_bytes, 0);
    ASKED(answer, ahoy_kv_delete(kv, "b", 0, 0, on_done, &answer));
    CHECK_EQ(answer.operation, AHOY_KV_DELETE);
    ASKED(answer, ahoy_kv_get(kv, "b", 0, on_done, &answer));
    CHECK_STATUS(answer.status, AHOY_ERR_NO_KEY);
}

typedef struct listing {
    latch keys, end;
    ahoy_status status;
    bool seen[256];
} listing;

static void on_key(ahoy_kv of, ahoy_status status, const ahoy_kv_entry *entry, void *user) {
    listing *listing = user;
    CHECK_EQ(of.id, kv.id);
    CHECK_EQ(latch_count(&listing->end), 0);
    listing->status = status;
    if (!entry) {
        latch_add(&listing->end, 1);
        return;
    }
    const unsigned char *key = entry->key;
    unsigned char byte = key[entry->key_bytes - 1];
    CHECK_EQ(*(const unsigned char *)entry->value, byte);
    CHECK(!listing->seen[byte]);
    listing->seen[byte] = true;
    latch_add(&listing->keys, 1);
}

/* All bytes, at the end of keys of two lengths. */
static void any_bytes(void) {
    for (int byte = 0; byte < 256; byte++) {
        unsigned char short_key[2] = { 'k', (unsigned char)byte }, long_key[255];
        memset(long_key, 0, sizeof long_key);
        long_key[254] = (unsigned char)byte;
        CHECK_OK(ahoy_kv_create_wait(kv, short_key, 2, short_key + 1, 1, NULL, NULL));
        CHECK_OK(ahoy_kv_create_wait(kv, long_key, 255, long_key + 254, 1, NULL, NULL));
    }
    listing one = { .keys = LATCH_INIT, .end = LATCH_INIT }, two = one, none = one, waits = one;
    CHECK_OK(ahoy_kv_keys(kv, "k", 0, on_key, &one));
    CHECK_OK(ahoy_kv_keys(kv, "\0\0", 2, on_key, &two));
    CHECK_OK(ahoy_kv_keys(kv, "none", 0, on_key, &none));
    latch_wait(&one.end, 1), latch_wait(&two.end, 1), latch_wait(&none.end, 1);
    CHECK_EQ(latch_count(&one.keys), 256);
    CHECK_EQ(latch_count(&two.keys), 256);
    CHECK_EQ(latch_count(&none.keys), 0);
    CHECK_OK(ahoy_kv_keys_wait(kv, "k", 0, on_key, &waits));
    CHECK_EQ(latch_count(&waits.keys), 256);
    CHECK_EQ(latch_count(&waits.end), 0);
}

static void bad_input(void) {
    char key[257];
    memset(key, 'k', sizeof key);
    ahoy_kv none;
    CHECK_STATUS(ahoy_kv_put_wait(kv, key, 256, "x", 1, NULL, NULL), AHOY_ERR_TOO_LONG);
    CHECK_STATUS(ahoy_kv_put_wait(kv, "", 0, "x", 1, NULL, NULL), AHOY_ERR_INVALID);
    CHECK_STATUS(ahoy_kv_put_wait(kv, NULL, 0, "x", 1, NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_kv_put_wait(kv, "k", 0, NULL, 1, NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_kv_put(kv, "k", 0, "x", 1, NULL, NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_kv_get(kv, "k", 0, NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_kv_keys(kv, "k", 0, NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_kv_keys_wait(kv, "k", 0, NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_kv_watch(kv, "k", 0, NULL, NULL, NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_kv_update_wait(kv, "k", 0, "x", 1, 0, NULL, NULL), AHOY_ERR_INVALID);
    char *large = calloc(1, (1 << 20) + 1);
    CHECK_STATUS(ahoy_kv_put_wait(kv, "k", 0, large, (1 << 20) + 1, NULL, NULL), AHOY_ERR_TOO_LONG);
    CHECK_OK(ahoy_kv_put_wait(kv, "large", 0, large, 1 << 20, NULL, NULL));
    size_t length = 0;
    CHECK_STATUS(ahoy_kv_get_wait(kv, "large", 0, large, 1 << 20, &length, NULL), AHOY_ERR_TOO_LONG);
    CHECK_EQ(length, 1 << 20);
    CHECK_OK(ahoy_kv_get_wait(kv, "large", 0, large, (1 << 20) + 1, NULL, NULL));
    free(large);

    CHECK_STATUS(ahoy_kv_open(server, NULL, NULL, &none), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_kv_open(server, "b", NULL, NULL), AHOY_ERR_NULL);
    CHECK_STATUS(ahoy_kv_open(server, "", NULL, &none), AHOY_ERR_INVALID);
    CHECK_STATUS(ahoy_kv_open(server, "a.b", NULL, &none), AHOY_ERR_INVALID);
    CHECK_STATUS(ahoy_kv_open((ahoy_server){ 7 }, "b", NULL, &none), AHOY_ERR_STALE);
    ahoy_kv_options options = { .size = sizeof options, .replicas = 3 };
    CHECK_STATUS(ahoy_kv_open(server, "b", &options, &none), AHOY_ERR_REPLICAS);
    options = (ahoy_kv_options){ .size = sizeof options, .replicas = 6 };
    CHECK_STATUS(ahoy_kv_open(server, "b", &options, &none), AHOY_ERR_INVALID);
    options = (ahoy_kv_options){ .size = sizeof options, .history = 65 };
    CHECK_STATUS(ahoy_kv_open(server, "b", &options, &none), AHOY_ERR_INVALID);
    options = (ahoy_kv_options){ .size = sizeof options, .ttl_ms = 99 };
    CHECK_STATUS(ahoy_kv_open(server, "b", &options, &none), AHOY_ERR_INVALID);
    options = (ahoy_kv_options){ .size = sizeof options, .reads = 2 };
    CHECK_STATUS(ahoy_kv_open(server, "b", &options, &none), AHOY_ERR_ENUM);
    options = (ahoy_kv_options){ .size = 0 };
    CHECK_STATUS(ahoy_kv_open(server, "b", &options, &none), AHOY_ERR_SIZE);
    options = (ahoy_kv_options){ .size = sizeof options, .path = "" };
    CHECK_STATUS(ahoy_kv_open(server, "b", &options, &none), AHOY_ERR_INVALID);
}

/* Two handles of one bucket; what one puts the other has; another bucket has nothing of it. */
static void handles(void) {
    ahoy_kv same, other;
    ahoy_kv_options options = { .size = sizeof options, .history = 2 };
    CHECK_STATUS(ahoy_kv_open(server, "bucket", &options, &same), AHOY_ERR_INVALID);
    CHECK_OK(ahoy_kv_open(server, "bucket", NULL, &same));
    CHECK_OK(ahoy_kv_open(server, "other", NULL, &other));
    CHECK(same.id != kv.id);
    put("shared", "x");
    CHECK_OK(ahoy_kv_get_wait(same, "shared", 0, NULL, 0, NULL, NULL));
    CHECK_STATUS(ahoy_kv_get_wait(other, "shared", 0, NULL, 0, NULL, NULL), AHOY_ERR_NO_KEY);
    CHECK_OK(ahoy_kv_close(same));
    CHECK_STATUS(ahoy_kv_close(same), AHOY_ERR_STALE);
    CHECK_STATUS(ahoy_kv_get_wait(same, "shared", 0, NULL, 0, NULL, NULL), AHOY_ERR_STALE);
    for (uint64_t id = 0; id < 3; id++) {
        ahoy_kv forged = { id ? UINT64_MAX - id : 0 };
        CHECK_STATUS(ahoy_kv_put(forged, "k", 0, "x", 1, NULL, on_done, NULL), AHOY_ERR_STALE);
        CHECK_STATUS(ahoy_kv_watch(forged, NULL, 0, on_done, NULL, NULL, NULL), AHOY_ERR_STALE);
        CHECK_STATUS(ahoy_kv_close(forged), AHOY_ERR_STALE);
    }
    CHECK_STATUS(ahoy_kv_unwatch((ahoy_watch){ 0 }), AHOY_ERR_STALE);
}

static void full(void) {
    ahoy_kv small;
    ahoy_kv_options options = { .size = sizeof options, .bytes_max = 10 };
    CHECK_OK(ahoy_kv_open(server, "small", &options, &small));
    CHECK_OK(ahoy_kv_put_wait(small, "a", 0, "12345", 5, NULL, NULL));
    CHECK_STATUS(ahoy_kv_put_wait(small, "b", 0, "12345", 5, NULL, NULL), AHOY_ERR_AGAIN);
    CHECK_OK(ahoy_kv_put_wait(small, "a", 0, "123", 3, NULL, NULL));
    CHECK_OK(ahoy_kv_put_wait(small, "b", 0, "12345", 5, NULL, NULL));
}

int main(void) {
    holdings before = holdings_now();
    for (int own_loop = 0; own_loop < 2; own_loop++) {
        if (own_loop) {
            /* The turns of the program's own loop are run by the calls that wait. */
            server = start(OPTIONS(.workers = AHOY_WORKERS_NONE));
            CHECK_OK(ahoy_kv_open(server, "bucket", NULL, &kv));
            conditions(), handles(), full(), bad_input();
        } else {
            server = start(OPTIONS(.workers = 2));
            CHECK_OK(ahoy_kv_open(server, "bucket", NULL, &kv));
            conditions(), called_back(), any_bytes(), handles(), full(), bad_input();
        }
        ahoy_server_free(server);
        CHECK_STATUS(ahoy_kv_get_wait(kv, "a", 0, NULL, 0, NULL, NULL), AHOY_ERR_STALE);
    }
    CHECK_HOLDINGS(before);
    return 0;
}
