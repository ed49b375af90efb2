/*
 * A bucket in a file: it is there for the next server, with its revisions and times; nothing that was acknowledged is lost
 * when the process is killed; a lease that was renewed ends for those who watch it; a second server is refused while the
 * first has the file; calls in flight at a stop each get their answer.
 */
#include "support.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CALLS = 500 };

static char path[4096];

static ahoy_kv open_file(ahoy_server server, ahoy_status expected) {
    ahoy_kv kv = { 0 };
    ahoy_kv_options options = { .size = sizeof options, .path = path };
    CHECK_STATUS(ahoy_kv_open(server, "bucket", &options, &kv), expected);
    return kv;
}

/* The child: puts for ever, and says what was acknowledged. */
_Noreturn static void put_for_ever(int out) {
    ahoy_server server = start(OPTIONS(.workers = 1));
    ahoy_kv kv = open_file(server, AHOY_OK);
    for (uint32_t i = 0;; i++) {
        char key[16];
        snprintf(key, sizeof key, "c%u", i % 100);
        CHECK_OK(ahoy_kv_put_wait(kv, key, 0, &i, sizeof i, NULL, NULL));
        CHECK_EQ(write(out, &i, sizeof i), sizeof i);
    }
}

static void killed(void) {
    for (int round = 0; round < 3; round++) {
        int pipes[2];
        CHECK(!pipe(pipes));
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) put_for_ever(pipes[1]);
        close(pipes[1]);
        uint32_t last = 0, next;
        for (long i = rounds(300) + 20; i > 0; i--) CHECK_EQ(read(pipes[0], &last, sizeof last), sizeof last);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(pipes[0], &next, sizeof next) == sizeof next) last = next;
        close(pipes[0]);

        int status_pipe[2];
        CHECK(!pipe(status_pipe));
        child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            ahoy_server server = start(OPTIONS(.workers = 1));
            ahoy_kv kv = open_file(server, AHOY_OK);
            for (uint32_t i = last >= 99 ? last - 99 : 0; i <= last; i++) {
                char key[16];
                uint32_t value;
                snprintf(key, sizeof key, "c%u", i % 100);
                CHECK_OK(ahoy_kv_get_wait(kv, key, 0, NULL, 0, NULL, NULL));
                char buffer[8];
                CHECK_OK(ahoy_kv_get_wait(kv, key, 0, buffer, sizeof buffer, NULL, NULL));
                memcpy(&value, buffer, sizeof value);
                CHECK(value >= i && value % 100 == i % 100);
            }
            ahoy_server_free(server);
            leave_child();
        }
        int status;
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
        close(status_pipe[0]), close(status_pipe[1]);
    }
}

static void on_done(ahoy_kv kv, ahoy_status status, const ahoy_kv_entry *entry, void *user) {
    (void)kv, (void)entry;
    CHECK(status == AHOY_OK || status == AHOY_ERR_STOPPED);
    latch_add(user, 1);
}

static void restarted(void) {
    ahoy_server server = start(OPTIONS(.workers = 1)), other = start(OPTIONS(.workers = 1));
    ahoy_kv kv = open_file(server, AHOY_OK), again = open_file(server, AHOY_OK), fresh;
    open_file(other, AHOY_ERR_BUSY);
    uint64_t first, second;
    CHECK_OK(ahoy_kv_put_wait(kv, "a", 0, "one", 3, NULL, &first));
    CHECK_OK(ahoy_kv_update_wait(again, "a", 0, "two", 3, first, NULL, &second));
    ahoy_kv_put_options brief = { .size = sizeof brief, .ttl_ms = 150 }, lasting = { .size = sizeof lasting, .ttl_ms = 3600000 };
    CHECK_OK(ahoy_kv_put_wait(kv, "brief", 0, "x", 1, &brief, NULL));
    CHECK_OK(ahoy_kv_put_wait(kv, "lasting", 0, "x", 1, &lasting, NULL));
    CHECK_OK(ahoy_kv_put_wait(kv, "gone", 0, "x", 1, NULL, NULL));
    CHECK_OK(ahoy_kv_delete_wait(kv, "gone", 0, 0));
    latch done = LATCH_INIT;
    long begun = 0;
    for (int i = 0; i < CALLS; i++) begun += ahoy_kv_put(kv, "many", 0, "x", 1, NULL, on_done, &done) == AHOY_OK;
    ahoy_server_free(server);
    CHECK_EQ(latch_count(&done), begun);

    fresh = open_file(other, AHOY_OK);
    char value[8];
    uint64_t revision, third;
    CHECK_OK(ahoy_kv_get_wait(fresh, "a", 0, value, sizeof value, NULL, &revision));
    CHECK_TEXT(value, "two");
    CHECK_EQ(revision, second);
    CHECK_STATUS(ahoy_kv_get_wait(fresh, "gone", 0, NULL, 0, NULL, NULL), AHOY_ERR_NO_KEY);
    CHECK_OK(ahoy_kv_get_wait(fresh, "lasting", 0, NULL, 0, NULL, NULL));
    WAIT_UNTIL(ahoy_kv_get_wait(fresh, "brief", 0, NULL, 0, NULL, NULL) == AHOY_ERR_NO_KEY);
    CHECK_STATUS(ahoy_kv_create_wait(fresh, "a", 0, "x", 1, NULL, NULL), AHOY_ERR_KEY_EXISTS);
    CHECK_OK(ahoy_kv_update_wait(fresh, "a", 0, "x", 1, second, NULL, &third));
    CHECK(third > second + 3);
    ahoy_kv_options options = { .size = sizeof options, .path = path, .history = 3 };
    ahoy_kv none;
    CHECK_STATUS(ahoy_kv_open(other, "bucket", &options, &none), AHOY_ERR_INVALID);
    options.path = "/none/at/all";
    CHECK_STATUS(ahoy_kv_open(other, "bucket", &options, &none), AHOY_ERR_NOT_FOUND);
    ahoy_server_free(other);
}

static void on_change(ahoy_kv of, ahoy_status status, const ahoy_kv_entry *entry, void *user) {
    (void)of;
    CHECK_OK(status);
    if (entry && entry->operation == AHOY_KV_DELETE) latch_add(user, 1);
}

/* A lease that is renewed, and ends in the end: whoever watches it hears of that. */
static void renewed(void) {
    ahoy_server server = start(OPTIONS(.workers = 1));
    ahoy_kv kv = open_file(server, AHOY_OK);
    latch ended = LATCH_INIT;
    CHECK_OK(ahoy_kv_watch(kv, "lease", 0, on_change, &ended, NULL, NULL));
    for (uint32_t ttl_ms = 150; ttl_ms <= 450; ttl_ms += 150) {
        ahoy_kv_put_options options = { .size = sizeof options, .ttl_ms = ttl_ms };
        CHECK_OK(ahoy_kv_put_wait(kv, "lease", 0, "x", 1, &options, NULL));
    }
    latch_wait(&ended, 1);
    CHECK_STATUS(ahoy_kv_get_wait(kv, "lease", 0, NULL, 0, NULL, NULL), AHOY_ERR_NO_KEY);
    ahoy_server_free(server);
}

int main(void) {
    snprintf(path, sizeof path, "%s/buckets", make_folder());
    killed();
    holdings before = holdings_now();
    restarted(), renewed();
    CHECK_HOLDINGS(before);
    remove_folder();
    return 0;
}
