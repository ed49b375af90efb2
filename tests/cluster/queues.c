/*
 * A node that pushes and works, told by lines on its standard input:
 *
 *     queues URL NAME [TIMEOUT_MS]  joins ("": the process alone is the cluster); then
 *     push QUEUE FIRST COUNT        pushes COUNT jobs "FIRST" … ; says "pushed N" or "unpushed N STATUS" for each
 *     once QUEUE TEXT ID            pushes one and waits; says "once STATUS"
 *     long QUEUE BYTES              pushes one of that length and waits; says "long STATUS"
 *     work QUEUE MODE IN_HAND ACK_MS TRIES REPLICAS [DEAD-QUEUE]     says "working STATUS", and "job TEXT TRIES" for each job
 *                                   MODE: done, keep (until "finish"), retry, drop, later (the first try of a number is
 *                                   put off for LATER_MS, and the second is done and says "later TEXT MICROSECONDS since")
 *     progress                      says of all that are kept that they take longer; says "progressed COUNT STALE"
 *     finish                        ends all that are kept; says "finished COUNT STALE"
 *     counts QUEUE                  says "counts STATUS WAITING IN_HAND DEAD"
 *     metrics                       says "jobs EVENT COUNT" for each
 *     leave MS                      stops and waits; says "left"
 */
#include <ahoy.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { KEPT_MAX = 4096, LATER_MS = 1000 };

static ahoy_server server;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static ahoy_job kept[KEPT_MAX];
static int kept_count;
static _Atomic long long put_off_us[KEPT_MAX]; /* when that number was put off */

static void on_state(ahoy_server of, int32_t state, ahoy_status reason, void *user)
{
    static const char *const names[] = { "local", "joining", "joined", "disconnected", "rejoined", "left" };
    (void)of, (void)user;
    printf("state %s %s\n", names[state], ahoy_status_name(reason));
}

static void on_pushed(ahoy_server of, ahoy_status status, void *user)
{
    (void)of;
    if (status) printf("unpushed %ld %s\n", (long)(size_t)user, ahoy_status_name(status));
    else printf("pushed %ld\n", (long)(size_t)user);
}

static long long now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

static void later(ahoy_job job, const char *data, size_t len, uint32_t tries)
{
    char text[24];
    long long now = now_us();
    snprintf(text, sizeof text, "%.*s", (int)len, data);
    long number = atol(text) % KEPT_MAX;
    if (tries == 1) {
        put_off_us[number] = now;
        ahoy_job_retry(job, LATER_MS);
    } else {
        printf("later %s %lld\n", text, now - put_off_us[number]);
        ahoy_job_done(job);
    }
}

static void take(ahoy_job job, const void *data, size_t len, uint32_t tries, void *user)
{
    const char *mode = user;
    if (!strcmp(mode, "keep")) {
        /* It can be ended as soon as it is told. */
        pthread_mutex_lock(&lock);
        if (kept_count < KEPT_MAX) kept[kept_count++] = job;
        pthread_mutex_unlock(&lock);
    }
    printf("job %.*s %u\n", (int)len, (const char *)data, tries);
    if (!strcmp(mode, "done")) ahoy_job_done(job);
    else if (!strcmp(mode, "retry")) ahoy_job_retry(job, 0);
    else if (!strcmp(mode, "later")) later(job, data, len, tries);
    else if (!strcmp(mode, "drop")) ahoy_job_drop(job, "not\nwanted");
}

static void push(const char *queue, long first, long count)
{
    for (long number = first; number < first + count; number++) {
        char text[24];
        int len = snprintf(text, sizeof text, "%ld", number);
        ahoy_status status = ahoy_queue_push(server, queue, text, (size_t)len, NULL, on_pushed, (void *)(size_t)number);
        if (status) printf("unpushed %ld %s\n", number, ahoy_status_name(status));
    }
}

static void finish(void)
{
    int stale = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < kept_count; i++) stale += ahoy_job_done(kept[i]) == AHOY_ERR_STALE;
    printf("finished %d %d\n", kept_count, stale);
    kept_count = 0;
    pthread_mutex_unlock(&lock);
}

static void progress(void)
{
    int stale = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < kept_count; i++) stale += ahoy_job_progress(kept[i]) == AHOY_ERR_STALE;
    printf("progressed %d %d\n", kept_count, stale);
    pthread_mutex_unlock(&lock);
}

static void metrics(void)
{
    static char text[65536];
    if (ahoy_metrics_text(server, text, sizeof text, NULL)) return;
    for (char *at = text; (at = strstr(at, "ahoy_jobs_total{event=\"")) != NULL; at++) {
        char event[32];
        unsigned long long count;
        if (sscanf(at, "ahoy_jobs_total{event=\"%31[a-z]\"} %llu", event, &count) == 2)
            printf("jobs %s %llu\n", event, count);
    }
}

static int told(char *line)
{
    char queue[80], text[80], id[80], dead[80] = "";
    long first, count;
    unsigned in_hand, ack_ms, tries, replicas;
    if (sscanf(line, "push %79s %ld %ld", queue, &first, &count) == 3) push(queue, first, count);
    else if (sscanf(line, "once %79s %79s %79s", queue, text, id) == 3)
        printf("once %s\n", ahoy_status_name(ahoy_queue_push_wait(server, queue, text, strlen(text),
                                                                  strcmp(id, "-") ? id : NULL)));
    else if (sscanf(line, "long %79s %ld", queue, &count) == 2) {
        char *data = calloc(1, (size_t)count);
        printf("long %s\n", ahoy_status_name(ahoy_queue_push_wait(server, queue, data, (size_t)count, NULL)));
        free(data);
    } else if (sscanf(line, "work %79s %79s %u %u %u %u %79s", queue, text, &in_hand, &ack_ms, &tries, &replicas,
                      dead) >= 6) {
        ahoy_work_options options = { .size = sizeof options, .in_hand_max = in_hand, .ack_ms = ack_ms,
                                      .tries_max = tries, .replicas = replicas,
                                      .dead_queue = *dead ? dead : NULL };
        ahoy_status status = ahoy_queue_work(server, queue, &options, take, strdup(text), free, NULL);
        printf("working %s\n", ahoy_status_name(status));
    } else if (!strcmp(line, "finish\n")) finish();
    else if (!strcmp(line, "progress\n")) progress();
    else if (!strcmp(line, "metrics\n")) metrics();
    else if (sscanf(line, "counts %79s", queue) == 1) {
        uint64_t counts[3] = { 0, 0, 0 };
        ahoy_status status = ahoy_queue_counts_wait(server, queue, &counts[0], &counts[1], &counts[2]);
        printf("counts %s %llu %llu %llu\n", ahoy_status_name(status), (unsigned long long)counts[0],
               (unsigned long long)counts[1], (unsigned long long)counts[2]);
    } else if (sscanf(line, "leave %ld", &count) == 1) {
        ahoy_server_stop(server, (int32_t)count);
        ahoy_server_wait(server);
        metrics();
        printf("left\n");
        return 0;
    }
    return 1;
}

int main(int argc, char **argv)
{
    char line[256];
    if (argc < 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    ahoy_cluster_options cluster = { .size = sizeof cluster, .node = argv[2], .join_ms = 10000,
                                     .timeout_ms = argc > 3 ? (uint32_t)atoi(argv[3]) : 0 };
    ahoy_server_options options = { .size = sizeof options, .workers = 8,
                                    .cluster = *argv[1] ? argv[1] : NULL,
                                    .cluster_options = &cluster, .on_cluster_state = on_state };
    if (ahoy_server_start(&options, &server)) return ahoy_perror("queues"), 1;
    printf("ready\n");
    while (fgets(line, sizeof line, stdin) && told(line)) {}
    ahoy_server_free(server);
    return 0;
}
