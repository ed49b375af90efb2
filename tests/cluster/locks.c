/*
 * A node that wants a lock again and again, as docs/CLUSTER.md describes it, and counts in a guarded key while it has it.
 *
 *     locks URL NAME
 *
 * The guarded key has the value "FENCE COUNT": who writes keeps the highest fence that it has seen, as a database would.
 * It says "locked FENCE"; for each write "wrote FENCE COUNT REVISION", "unknown FENCE COUNT" (its answer is lost) or
 * "refused FENCE" (somebody else's fence is there by now); "released FENCE" or "lost FENCE STATUS" at the end of each
 * turn; and "ended" when its input has ended.
 */
#include <ahoy.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LEASE_MS = 2000, RENEW_MS = 500, TURN_MS = 800, STEP_MS = 5 };

static ahoy_kv kv;
static const char *me;
static const ahoy_kv_put_options lease = { .size = sizeof lease, .ttl_ms = LEASE_MS };

static long now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Whether the lock is ours after a change without an answer; then the revision is its fence, or is renewed. */
static ahoy_status look(uint64_t *revision)
{
    char holder[64];
    ahoy_status status = ahoy_kv_get_wait(kv, "lock", 0, holder, sizeof holder, NULL, revision);
    return status || !strcmp(holder, me) ? status : AHOY_ERR_KEY_EXISTS;
}

static ahoy_status take(uint64_t *fence)
{
    ahoy_status status = ahoy_kv_create_wait(kv, "lock", 0, me, strlen(me), &lease, fence);
    return status == AHOY_ERR_UNKNOWN_OUTCOME ? look(fence) : status;
}

static ahoy_status renew(uint64_t *last)
{
    ahoy_status status = ahoy_kv_update_wait(kv, "lock", 0, me, strlen(me), *last, &lease, last);
    return status == AHOY_ERR_UNKNOWN_OUTCOME ? look(last) : status;
}

/* Counts one further. AHOY_ERR_REVISION: somebody else has the lock. */
static ahoy_status count(uint64_t fence)
{
    char text[64];
    unsigned long long highest = 0, number = 0;
    uint64_t revision = 0;
    ahoy_status status = ahoy_kv_get_wait(kv, "guarded", 0, text, sizeof text, NULL, &revision);
    if (status && status != AHOY_ERR_NO_KEY) return status;
    if (!status) sscanf(text, "%llu %llu", &highest, &number);
    if (highest > fence) return AHOY_ERR_REVISION;
    poll(NULL, 0, STEP_MS); /* whoever is stopped here writes what is no longer true */
    snprintf(text, sizeof text, "%llu %llu", (unsigned long long)fence, number + 1);
    status = revision ? ahoy_kv_update_wait(kv, "guarded", 0, text, strlen(text), revision, NULL, &revision)
                      : ahoy_kv_create_wait(kv, "guarded", 0, text, strlen(text), NULL, &revision);
    if (!status) printf("wrote %s %llu\n", text, (unsigned long long)revision);
    if (status == AHOY_ERR_UNKNOWN_OUTCOME) printf("unknown %s\n", text);
    return status == AHOY_ERR_KEY_EXISTS ? AHOY_ERR_REVISION : status;
}

/* Counts while the lock is ours, and gives it back. */
static void turn(uint64_t fence)
{
    uint64_t last = fence;
    long begun = now_ms(), renewed = begun;
    ahoy_status status = AHOY_OK;
    printf("locked %llu\n", (unsigned long long)fence);
    while (!status && now_ms() - begun < TURN_MS) {
        status = count(fence);
        if (status == AHOY_ERR_REVISION) printf("refused %llu\n", (unsigned long long)fence);
        if (!status && now_ms() - renewed > RENEW_MS) {
            status = renew(&last);
            renewed = now_ms();
        }
    }
    if (!status) status = ahoy_kv_delete_wait(kv, "lock", 0, last);
    if (status) printf("lost %llu %s\n", (unsigned long long)fence, ahoy_status_name(status));
    else printf("released %llu\n", (unsigned long long)fence);
}

int main(int argc, char **argv)
{
    if (argc != 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    me = argv[2];
    ahoy_cluster_options cluster = { .size = sizeof cluster, .node = me, .join_ms = 20000, .timeout_ms = 1500 };
    ahoy_server_options options = { .size = sizeof options, .workers = 1, .cluster = argv[1],
                                    .cluster_options = &cluster };
    ahoy_server server;
    if (ahoy_server_start(&options, &server) || ahoy_kv_open(server, "b", NULL, &kv)) return ahoy_perror("locks"), 1;
    printf("ready\n");
    struct pollfd input = { .fd = 0, .events = POLLIN };
    while (!poll(&input, 1, STEP_MS)) {
        uint64_t fence;
        if (!take(&fence)) turn(fence);
    }
    ahoy_server_free(server);
    printf("ended\n");
    return 0;
}
