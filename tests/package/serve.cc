// The same as serve.c, as a C++11 program writes it: callbacks are lambdas, the handle has an owner.
#include <ahoy.h>

#include <atomic>
#include <iostream>
#include <string>

namespace {

class Server {
public:
    explicit Server(const ahoy_server_options &options) { status = ahoy_server_start(&options, &handle); }
    ~Server() { ahoy_server_free(handle); }
    Server(const Server &) = delete;
    Server &operator=(const Server &) = delete;

    ahoy_status status = AHOY_OK;
    ahoy_server handle = {};
};

}  // namespace

int main()
{
    std::atomic<int> closed(0);
    ahoy_server_options options = ahoy_server_options();
    options.size = sizeof options;
    options.listen = "tcp://127.0.0.1:0";
    options.user = &closed;
    options.on_message = [](ahoy_conn conn, const void *data, size_t len, void *) {
        if (std::string(static_cast<const char *>(data), len) == "hi") ahoy_conn_greet(conn);
        ahoy_conn_close(conn);
    };
    options.on_close = [](ahoy_conn, ahoy_status reason, void *user) {
        if (reason == AHOY_OK) ++*static_cast<std::atomic<int> *>(user);
    };
    {
        Server server(options);
        char url[128];
        if (server.status != AHOY_OK || ahoy_server_address(server.handle, 0, url, sizeof url) != AHOY_OK) {
            ahoy_perror("serve");
            return 1;
        }
        std::cout << url << "\nready" << std::endl;
        std::cin.ignore(1, std::char_traits<char>::eof());
        ahoy_server_stop(server.handle, AHOY_DRAIN_DEFAULT);
        ahoy_server_wait(server.handle);
    }
    return closed == 1 ? 0 : 1;
}
