N=$1; K=0123456789abcdef0123456789abcdef; PORT=$((5000+RANDOM%500))
"${GUSH:-target/release/gush}" serve --anonymous --log memory --publisher-key $K --listen 127.0.0.1:$PORT --listen 127.0.0.2:$PORT --admin-listen off --max-connections $((N+1000)) --drain-window 1s >/dev/null 2>hub1m.log & HP=$!
sleep 2; tail -3 hub1m.log
timeout ${3:-160} "${GUSH:-target/release/gush}" bench idle --url http://127.0.0.1:$PORT/.well-known/mercure --publisher-key $K --subscribers $N --seconds $2 --broadcast ${@:4} 2>bench1m.log
tail -3 bench1m.log; kill $HP; wait $HP; tail -3 hub1m.log
