/*
 * service: text in capitals, as a service of a cluster. Start it on as many machines as you like: each call is
 * answered by one of them, and a call whose machine dies is sent to another.
 *
 *     cc -o service service.c $(pkg-config --cflags --libs ahoy)
 *     ./service nats://127.0.0.1/shop                answers, until Ctrl-D
 *     ./service nats://127.0.0.1/shop hello world    calls
 *
 * Any NATS client takes part: nats request shop.service.upper hello; nats micro info upper
 */
#include <ahoy.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Runs on any worker, on several at once. The answer may also be given later, by another thread. */
static void upper(ahoy_incoming call, const void *data, size_t len, void *user)
{
    const unsigned char *text = data;
    char *answer = malloc(len ? len : 1);

    (void)user;
    if (!answer) {
        ahoy_reply_failed(call, "out of memory");
        return;
    }
    for (size_t i = 0; i < len; i++) answer[i] = (char)toupper(text[i]);
    if (ahoy_reply(call, answer, len) != AHOY_OK) ahoy_perror("service");
    free(answer);
}

static int serve(ahoy_server server)
{
    ahoy_service_options options = { .size = sizeof options, .version = "1.0.0", .description = "text in capitals" };

    if (ahoy_service(server, "upper", &options, upper, NULL, NULL, NULL)) return ahoy_perror("service"), 1;
    puts("service: offering upper");
    fflush(stdout);
    while (getchar() != EOF) continue;
    return 0;
}

static int call(ahoy_server server, char **words)
{
    /* To say it twice does no harm, so it may be sent again when the node that has it dies. */
    ahoy_call_options options = { .size = sizeof options, .timeout_ms = 3000, .idempotent = 1 };
    char answer[1024];
    size_t len;
    int failed = 0;

    for (; *words; words++) {
        if (ahoy_call_wait(server, "upper", *words, strlen(*words), &options, answer, sizeof answer, &len)) {
            ahoy_perror(*words);
            failed = 1;
            continue;
        }
        printf("%.*s\n", (int)len, answer);
    }
    return failed;
}

int main(int argc, char **argv)
{
    ahoy_cluster_options cluster = { .size = sizeof cluster, .join_ms = 5000 };
    ahoy_server_options options = { .size = sizeof options, .cluster_options = &cluster };
    ahoy_server server;
    int result;

    if (argc < 2) return fprintf(stderr, "usage: service nats://HOST/CLUSTER [WORD...]\n"), 2;
    options.cluster = argv[1];
    if (ahoy_server_start(&options, &server)) return ahoy_perror("service"), 1;
    result = argc > 2 ? call(server, argv + 2) : serve(server);
    ahoy_server_stop(server, 5000); /* what is in hand may still be answered */
    ahoy_server_wait(server);
    return ahoy_server_free(server), result;
}
