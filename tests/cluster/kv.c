/*
 * A node with buckets, told by lines what to do (test_kv.py). Each command ends with one line that begins with its name.
 *
 *     kv URL [TIMEOUT_MS]     (URL "": the process alone is the cluster)
 *     open NAME REPLICAS HISTORY TTL READS [BYTES_MAX]     put KEY VALUE TTL     create KEY VALUE TTL     update KEY VALUE REVISION [TTL]
 *     delete KEY REVISION     get KEY     keys PREFIX     watch PREFIX     own COUNT     load PREFIX COUNT     verify
 *     random SEED KEYS MILLISECONDS     metric NAME     state
 *
 * In keys and prefixes "%" and two hexadecimal digits are a byte, and any byte but a visible one is written so.
 */
#include <ahoy.h>

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOAD_MAX = 100000, WINDOW = 64, KEY_MAX = 512, VALUE_MAX = 8192 };

static ahoy_server server;
static ahoy_kv kv;
static pthread_mutex_t out = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int in_flight;
static _Atomic int outcomes[LOAD_MAX]; /* 1: acknowledged; a status otherwise */
static char load_prefix[64];
static int load_count;

#define SAY(...) \
    (pthread_mutex_lock(&out), printf(__VA_ARGS__), putchar('\n'), fflush(stdout), pthread_mutex_unlock(&out))

static const char *name(ahoy_status status) { return ahoy_status_name(status); }

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* A key as it stands in a line. */
static char *written(const ahoy_kv_entry *entry, char text[3 * KEY_MAX + 1]) {
    char *to = text;
    for (size_t i = 0; i < entry->key_bytes && i < KEY_MAX; i++) {
        unsigned char byte = ((const unsigned char *)entry->key)[i];
        to += sprintf(to, byte > ' ' && byte < 127 && byte != '%' ? "%c" : "%%%02X", byte);
    }
    *to = 0;
    return text;
}

/* Makes it what it stands for; its length. */
static size_t read_key(char *text) {
    char *to = text;
    unsigned byte;
    for (const char *from = text; *from; to++) {
        if (*from == '%' && sscanf(from, "%%%2x", &byte) == 1) *to = (char)byte, from += 3;
        else *to = *from++;
    }
    return (size_t)(to - text);
}

static void on_change(ahoy_kv of, ahoy_status status, const ahoy_kv_entry *entry, void *user) {
    char key[3 * KEY_MAX + 1];
    (void)of, (void)status, (void)user;
    if (!entry)
        SAY("watch caught-up");
    else
        SAY("watch %s %s %llu %s", written(entry, key), entry->value_bytes ? (const char *)entry->value : "-",
            (unsigned long long)entry->revision, entry->operation == AHOY_KV_PUT ? "put" : "delete");
}

static void on_key(ahoy_kv of, ahoy_status status, const ahoy_kv_entry *entry, void *user) {
    char key[3 * KEY_MAX + 1];
    (void)of, (void)status;
    ++*(long *)user;
    SAY("key %s %s %llu", written(entry, key), (const char *)entry->value, (unsigned long long)entry->revision);
}

static void on_loaded(ahoy_kv of, ahoy_status status, const ahoy_kv_entry *entry, void *user) {
    (void)of, (void)entry;
    outcomes[(long)user] = status == AHOY_OK ? 1 : status;
    in_flight--;
}

static void pause_a_moment(void) { poll(NULL, 0, 1); }

/* Keeps WINDOW puts under way. */
static void *load(void *unused) {
    long refused = 0, acknowledged = 0, unknown = 0, failed = 0;
    (void)unused;
    for (long i = 0; i < load_count; i++) {
        char key[96], value[32];
        snprintf(key, sizeof key, "%s%ld", load_prefix, i);
        snprintf(value, sizeof value, "%ld", i);
        while (in_flight >= WINDOW) pause_a_moment();
        in_flight++;
        ahoy_status status = ahoy_kv_put(kv, key, 0, value, strlen(value), NULL, on_loaded, (void *)i);
        if (status) {
            in_flight--;
            refused++;
            outcomes[i] = status;
            pause_a_moment();
        }
        if (i % 500 == 0) SAY("loading %ld", i);
    }
    while (in_flight > 0) pause_a_moment();
    for (long i = 0; i < load_count; i++) {
        acknowledged += outcomes[i] == 1;
        unknown += outcomes[i] == AHOY_ERR_UNKNOWN_OUTCOME;
        failed += outcomes[i] != 1 && outcomes[i] != AHOY_ERR_UNKNOWN_OUTCOME;
    }
    SAY("load acknowledged=%ld unknown=%ld failed=%ld refused=%ld", acknowledged, unknown, failed, refused);
    return NULL;
}

static void verify(void) {
    long lost = 0, read = 0;
    for (long i = 0; i < load_count; i++) {
        char key[96], value[32], wanted[32];
        if (outcomes[i] != 1) continue;
        snprintf(key, sizeof key, "%s%ld", load_prefix, i);
        snprintf(wanted, sizeof wanted, "%ld", i);
        ahoy_status status = ahoy_kv_get_wait(kv, key, 0, value, sizeof value, NULL, NULL);
        /* While there is no leader nobody can say. */
        long long until_ns = now_ns() + 30 * 1000000000LL;
        while ((status == AHOY_ERR_TIMEOUT || status == AHOY_ERR_DISCONNECTED) && now_ns() < until_ns) {
            pause_a_moment();
            status = ahoy_kv_get_wait(kv, key, 0, value, sizeof value, NULL, NULL);
        }
        if (status && status != AHOY_ERR_NO_KEY) SAY("verify-error %s", name(status));
        lost += status || strcmp(value, wanted) != 0;
        read++;
    }
    SAY("verify lost=%ld of=%ld", lost, read);
}

static void own(long count) {
    long missed = 0, done = 0;
    for (long i = 0; i < count; i++) {
        uint64_t put, got = 0;
        if (ahoy_kv_put_wait(kv, "own", 0, "x", 1, NULL, &put)) continue;
        done++;
        missed += ahoy_kv_get_wait(kv, "own", 0, NULL, 0, NULL, &got) || got != put;
    }
    SAY("own missed=%ld of=%ld", missed, done);
}

/* Random calls, each as a line: begin, end, key, kind, argument, expected revision, status, value, revision. */
static void random_calls(unsigned seed, int keys, long milliseconds) {
    long long until = now_ns() + milliseconds * 1000000;
    uint64_t seen[16] = { 0 };
    long count = 0;
    for (unsigned serial = 1; now_ns() < until; serial++) {
        int at = rand_r(&seed) % keys, kind = rand_r(&seed) % 8;
        char key[16], value[32] = "-", got[32] = "-";
        uint64_t expected = 0, revision = 0;
        ahoy_status status;
        const char *what;
        snprintf(key, sizeof key, "r%d", at);
        snprintf(value, sizeof value, "%u-%u", seed, serial);
        long long begin = now_ns();
        if (kind < 3) {
            what = "get";
            status = ahoy_kv_get_wait(kv, key, 0, got, sizeof got, NULL, &revision);
        } else if (kind < 5 || (kind < 7 && !seen[at])) {
            what = "put";
            status = ahoy_kv_put_wait(kv, key, 0, value, strlen(value), NULL, &revision);
        } else if (kind < 7) {
            what = "update";
            expected = seen[at];
            status = ahoy_kv_update_wait(kv, key, 0, value, strlen(value), expected, NULL, &revision);
        } else if (rand_r(&seed) % 2) {
            what = "create";
            status = ahoy_kv_create_wait(kv, key, 0, value, strlen(value), NULL, &revision);
        } else {
            what = "delete";
            status = ahoy_kv_delete_wait(kv, key, 0, 0);
        }
        if (status == AHOY_OK && revision) seen[at] = revision;
        if (status == AHOY_ERR_FAILED) SAY("failed %s", ahoy_last_error());
        poll(NULL, 0, 10); /* the checker has to follow */
        SAY("call %lld %lld %s %s %s %llu %s %s %llu", begin, now_ns(), key, what, value, (unsigned long long)expected,
            name(status), got, (unsigned long long)revision);
        count++;
    }
    SAY("random %ld", count);
}

static void metric(const char *wanted) {
    static char text[1 << 16];
    ahoy_metrics_text(server, text, sizeof text, NULL);
    char line[160];
    snprintf(line, sizeof line, "\n%.127s ", wanted);
    const char *found = strstr(text, line);
    SAY("metric %.*s", found ? (int)strcspn(found + strlen(line), "\n") : 4, found ? found + strlen(line) : "none");
}

int main(int argc, char **argv) {
    static char line[16 * 1024], b[VALUE_MAX];
    char a[3 * KEY_MAX];
    ahoy_cluster_options cluster = { .size = sizeof cluster, .join_ms = 20000 };
    if (argc > 2) cluster.timeout_ms = (uint32_t)atoi(argv[2]);
    ahoy_server_options options = { .size = sizeof options, .cluster_options = &cluster };
    options.cluster = argc > 1 && *argv[1] ? argv[1] : NULL;
    options.listen = "tcp://127.0.0.1:0";
    ahoy_status status = ahoy_server_start(&options, &server);
    SAY("started %s", status ? ahoy_last_error() : "AHOY_OK");
    if (status) return 1;
    while (fgets(line, sizeof line, stdin)) {
        uint64_t revision = 0;
        unsigned n[5] = { 0 };
        long count = 0;
        size_t length;
        if (sscanf(line, "open %127s %u %u %u %u %u", a, &n[0], &n[1], &n[2], &n[3], &n[4]) >= 5) {
            ahoy_kv_options wanted = { .size = sizeof wanted, .replicas = n[0], .history = n[1], .ttl_ms = n[2],
                                       .reads = (int)n[3], .bytes_max = n[4] };
            status = ahoy_kv_open(server, a, &wanted, &kv);
            SAY("open %s %s", name(status), status ? ahoy_last_error() : "");
        } else if (sscanf(line, "put %1535s %8191s %u", a, b, &n[0]) == 3) {
            ahoy_kv_put_options wanted = { .size = sizeof wanted, .ttl_ms = n[0] };
            status = ahoy_kv_put_wait(kv, a, read_key(a), b, strlen(b), &wanted, &revision);
            SAY("put %s %llu", name(status), (unsigned long long)revision);
        } else if (sscanf(line, "create %1535s %8191s %u", a, b, &n[0]) == 3) {
            ahoy_kv_put_options wanted = { .size = sizeof wanted, .ttl_ms = n[0] };
            status = ahoy_kv_create_wait(kv, a, read_key(a), b, strlen(b), &wanted, &revision);
            SAY("create %s %llu", name(status), (unsigned long long)revision);
        } else if (sscanf(line, "update %1535s %8191s %u %u", a, b, &n[0], &n[1]) >= 3) {
            ahoy_kv_put_options wanted = { .size = sizeof wanted, .ttl_ms = n[1] };
            status = ahoy_kv_update_wait(kv, a, read_key(a), b, strlen(b), n[0], &wanted, &revision);
            SAY("update %s %llu", name(status), (unsigned long long)revision);
        } else if (sscanf(line, "delete %1535s %u", a, &n[0]) == 2) {
            SAY("delete %s", name(ahoy_kv_delete_wait(kv, a, read_key(a), n[0])));
        } else if (sscanf(line, "get %1535s", a) == 1) {
            static char value[VALUE_MAX];
            status = ahoy_kv_get_wait(kv, a, read_key(a), value, sizeof value, NULL, &revision);
            SAY("get %s %s %llu", name(status), status ? "-" : value, (unsigned long long)revision);
        } else if (sscanf(line, "keys %1535s", a) == 1) {
            length = strcmp(a, "*") ? read_key(a) : 0;
            status = ahoy_kv_keys_wait(kv, length ? a : NULL, length, on_key, &count);
            SAY("keys %s %ld", name(status), count);
        } else if (sscanf(line, "watch %1535s", a) == 1) {
            length = strcmp(a, "*") ? read_key(a) : 0;
            status = ahoy_kv_watch(kv, length ? a : NULL, length, on_change, NULL, NULL, NULL);
            SAY("watching %s", name(status));
        } else if (sscanf(line, "own %ld", &count) == 1) {
            own(count);
        } else if (sscanf(line, "load %63s %d", load_prefix, &load_count) == 2 && load_count <= LOAD_MAX) {
            pthread_t thread;
            pthread_create(&thread, NULL, load, NULL);
            pthread_detach(thread);
        } else if (!strncmp(line, "verify", 6)) {
            verify();
        } else if (sscanf(line, "random %u %u %u", &n[0], &n[1], &n[2]) == 3 && n[1] <= 16) {
            random_calls(n[0], (int)n[1], n[2]);
        } else if (sscanf(line, "metric %127s", a) == 1) {
            metric(a);
        } else {
            SAY("what? %s", line);
        }
    }
    ahoy_server_stop(server, 1000);
    ahoy_server_wait(server);
    ahoy_server_free(server);
    SAY("ended");
    return 0;
}
