#!/bin/bash
# The loop that forums give: inotifywait and curl. $1 is the URL, $2 the folder, $3 how many pictures end it, $4 where the
# keys go.
inotifywait -m -e close_write -e moved_to --format '%w%f' "$2" |
    while read -r path; do
        curl -sS -H "Authorization: Bearer t-bench" -F image_type=message -F "image=@$path" "$1/open-apis/image/v4/put/" >"$4/${path##*/}"
        seen=$((seen + 1))
        [ "$seen" -lt "$3" ] || break
    done
