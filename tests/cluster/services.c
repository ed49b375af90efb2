/*
 * A node that offers services and calls them, as lines on its standard input say; what happens it says on its standard
 * output.
 *
 *     services NODE URL     (URL "": the process alone is the cluster)
 */
#include <ahoy.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ahoy_server server;
static const char *node;
static atomic_long served, freed;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static ahoy_incoming kept[1024];
static size_t kept_count;
static ahoy_offer offer;

static const char *name_of(ahoy_status status) { return ahoy_status_name(status); }

static void on_state(ahoy_server from, int32_t state, ahoy_status reason, void *user) {
    (void)from, (void)user;
    printf("state %d %s\n", state, name_of(reason));
}

/* ---- What it offers: `user` is the mode. */

static void serve(ahoy_incoming call, const void *data, size_t len, void *user) {
    const char *mode = user, *text = data;
    served++;
    if (!strcmp(mode, "node")) {
        ahoy_reply(call, node, strlen(node));
    } else if (!strcmp(mode, "fail")) {
        ahoy_reply_failed(call, "it broke");
    } else if (!strcmp(mode, "keep")) {
        pthread_mutex_lock(&mutex);
        if (kept_count < sizeof kept / sizeof *kept) kept[kept_count++] = call;
        pthread_mutex_unlock(&mutex);
        printf("kept %.*s\n", (int)len, text);
    } else if (!strcmp(mode, "big")) {
        size_t bytes = strtoul(text, NULL, 10);
        char *answer = calloc(1, bytes);
        ahoy_status status = ahoy_reply(call, answer, bytes);
        printf("big %s\n", name_of(status));
        if (status) ahoy_reply_failed(call, name_of(status));
        free(answer);
    } else {
        char *upper = malloc(len ? len : 1);
        for (size_t i = 0; i < len; i++) upper[i] = text[i] >= 'a' && text[i] <= 'z' ? text[i] - 32 : text[i];
        ahoy_reply(call, upper, len);
        free(upper);
    }
}

static void on_free(void *mode) {
    free(mode);
    freed++;
    printf("freed\n");
}

/* ---- What it calls. */

static void on_reply(ahoy_server from, ahoy_status status, const void *data, size_t len, void *user) {
    (void)from;
    printf("reply %s %s %zu %.*s\n", (char *)user, name_of(status), len, len < 200 ? (int)len : 0, (const char *)data);
    free(user);
}

static atomic_long counts[64], left;

static void count_reply(ahoy_server from, ahoy_status status, const void *data, size_t len, void *user) {
    (void)from, (void)data, (void)len, (void)user;
    counts[-status]++;
    left--;
}

/* Keeps so many calls under way until "enough" is said. */
static atomic_bool enough;
static pthread_t caller;

static void *keep_calling(void *name) {
    char text[256];
    size_t len = 0;
    while (!enough) {
        ahoy_call_options options = { .size = sizeof options, .timeout_ms = 3000 };
        ahoy_status status = ahoy_call_wait(server, name, "x", 1, &options, text, sizeof text, &len);
        counts[-status]++;
    }
    return NULL;
}

static void print_counts(const char *title) {
    printf("%s", title);
    for (int i = 0; i < 64; i++) {
        long count = atomic_exchange(&counts[i], 0);
        if (count) printf(" %s=%ld", name_of((ahoy_status)-i), count);
    }
    printf("\n");
}

static void call(char *line) {
    char id[32], name[80], text[128] = "";
    unsigned timeout_ms;
    int idempotent;
    if (sscanf(line, "%31s %79s %u %d %127[^\n]", id, name, &timeout_ms, &idempotent, text) < 4) exit(2);
    ahoy_call_options options = { .size = sizeof options, .timeout_ms = timeout_ms, .idempotent = idempotent };
    char *user = strdup(id);
    ahoy_status status = ahoy_call(server, name, text, strlen(text), &options, on_reply, user);
    if (!status) return;
    printf("call %s %s\n", id, name_of(status));
    free(user);
}

static void many(char *line) {
    char name[80];
    long count;
    if (sscanf(line, "%79s %ld", name, &count) != 2) exit(2);
    left = count;
    for (long i = 0; i < count; i++) {
        ahoy_status status = ahoy_call(server, name, "x", 1, NULL, count_reply, NULL);
        if (!status) continue;
        counts[-status]++;
        left--;
    }
}

static void big(char *line) {
    char name[80];
    size_t bytes, len = 0;
    if (sscanf(line, "%79s %zu", name, &bytes) != 2) exit(2);
    char *data = calloc(1, bytes), *answer = malloc(bytes);
    ahoy_status status = ahoy_call_wait(server, name, data, bytes, NULL, answer, bytes, &len);
    printf("big %s %zu\n", name_of(status), len);
    free(data), free(answer);
}

static void reply(const char *text) {
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < kept_count; i++) {
        ahoy_status status = ahoy_reply(kept[i], text, strlen(text));
        printf("replied %s\n", name_of(status));
    }
    kept_count = 0;
    pthread_mutex_unlock(&mutex);
}

/* Answers all that is kept with so many bytes. */
static void fill(size_t bytes) {
    char *answer = calloc(1, bytes);
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < kept_count; i++) counts[-ahoy_reply(kept[i], answer, bytes)]++;
    kept_count = 0;
    pthread_mutex_unlock(&mutex);
    free(answer);
    print_counts("filled");
}

int main(int argc, char **argv) {
    char line[512], name[80], mode[16];
    unsigned in_hand_max = 0;
    if (argc != 3) return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    node = argv[1];
    ahoy_cluster_options cluster = { .size = sizeof cluster, .node = node, .join_ms = 20000 };
    ahoy_server_options options = { .size = sizeof options, .workers = 2,
                                    .cluster = *argv[2] ? argv[2] : NULL,
                                    .cluster_options = &cluster, .on_cluster_state = on_state, .drain_ms = 20000 };
    if (ahoy_server_start(&options, &server)) return ahoy_perror("services"), 1;
    printf("ready\n");
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (sscanf(line, "offer %79s %15s %u", name, mode, &in_hand_max) >= 2) {
            ahoy_service_options service = { .size = sizeof service, .in_hand_max = in_hand_max, .version = "1.2.0",
                                             .description = "says \"hello\"" };
            printf("offer %s\n", name_of(ahoy_service(server, name, &service, serve, strdup(mode), on_free, &offer)));
        } else if (!strncmp(line, "call ", 5)) {
            call(line + 5);
        } else if (!strncmp(line, "many ", 5)) {
            many(line + 5);
        } else if (!strncmp(line, "keep calling ", 13)) {
            enough = false;
            strcpy(name, line + 13);
            pthread_create(&caller, NULL, keep_calling, name);
        } else if (!strcmp(line, "enough")) {
            enough = true;
            pthread_join(caller, NULL);
            print_counts("counts");
        } else if (!strcmp(line, "counts")) {
            while (left > 0) sched_yield();
            print_counts("counts");
        } else if (!strncmp(line, "big ", 4)) {
            big(line + 4);
        } else if (!strncmp(line, "reply ", 6)) {
            reply(line + 6);
        } else if (!strncmp(line, "fill ", 5)) {
            fill(strtoul(line + 5, NULL, 10));
        } else if (!strcmp(line, "served")) {
            printf("served %ld\n", served);
        } else if (!strcmp(line, "end")) {
            printf("end %s\n", name_of(ahoy_offer_end(offer)));
        } else if (!strcmp(line, "stop")) {
            ahoy_server_stop(server, 20000);
            printf("stopping\n");
        } else {
            printf("what? %s\n", line);
        }
    }
    ahoy_server_free(server);
    printf("bye %ld\n", freed);
    return 0;
}
