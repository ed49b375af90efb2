/*
 * asio: as its echo server does it (asynchronous operations, handlers that hold the session), on a context of one thread that knows it
 * is the only one.
 */
#include <asio.hpp>
#include <memory>

#include "peer.h"

using asio::ip::tcp;

namespace {

enum class mode { echo, greet, framed };

class session : public std::enable_shared_from_this<session> {
public:
    session(tcp::socket socket, mode mode) : socket_(std::move(socket)), mode_(mode)
    {
        if (mode_ == mode::framed)
            answers_ = std::make_unique<char[]>(PEER_READ_BYTES);
    }

    void receive()
    {
        auto room = asio::buffer(buffer_ + partial_len_, sizeof buffer_ - partial_len_);
        socket_.async_read_some(room, [self = shared_from_this()](std::error_code error, size_t len) {
            if (!error)
                self->serve(self->partial_len_ + len);
        });
    }

private:
    void serve(size_t len)
    {
        if (mode_ == mode::echo) {
            send(buffer_, len);
        } else if (mode_ == mode::greet) {
            send(PEER_GREETING, PEER_GREETING_BYTES);
        } else {
            ssize_t done = peer_answer_messages(answers_.get(), buffer_, len);
            if (done < 0)
                return;
            partial_len_ = len - size_t(done);
            memmove(buffer_, buffer_ + done, partial_len_);
            if (done > 0)
                send(answers_.get(), size_t(done));
            else
                receive();
        }
    }

    /* Who is greeted is not held any longer then: that closes it. */
    void send(const char *bytes, size_t len)
    {
        asio::async_write(socket_, asio::buffer(bytes, len), [self = shared_from_this()](std::error_code error, size_t) {
            if (!error && self->mode_ != mode::greet)
                self->receive();
        });
    }

    tcp::socket socket_;
    mode mode_;
    size_t partial_len_ = 0; /* the beginning of a message, in front of what is received next */
    std::unique_ptr<char[]> answers_;
    char buffer_[PEER_READ_BYTES];
};

void accept(tcp::acceptor &acceptor, mode mode)
{
    acceptor.async_accept([&acceptor, mode](std::error_code error, tcp::socket socket) {
        if (!error)
            std::make_shared<session>(std::move(socket), mode)->receive();
        accept(acceptor, mode);
    });
}

} // namespace

int main(int argc, char **argv)
{
    std::string version = "Asio " + std::to_string(ASIO_VERSION / 100000) + "." + std::to_string(ASIO_VERSION / 100 % 1000) + "." +
                          std::to_string(ASIO_VERSION % 100);
    peer arguments = peer_arguments(argc, argv, "echo greet framed ", version.c_str());
    std::string name = arguments.mode;

    asio::io_context context(ASIO_CONCURRENCY_HINT_UNSAFE);
    tcp::acceptor acceptor(context);
    acceptor.assign(tcp::v4(), peer_listen(arguments.port));
    accept(acceptor, name == "greet" ? mode::greet : name == "framed" ? mode::framed : mode::echo);
    context.run();
}
