"""OpenAI's chat completions before the upstream: FastAPI and httpx."""

import asyncio
import os
import time
import uuid
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel

UPSTREAM = os.environ["UPSTREAM_URL"]
INTERVAL = float(os.environ.get("INTERVAL", "3"))

threads: dict[str, str] = {}


class Message(BaseModel):
    role: str
    content: str


class ChatRequest(BaseModel):
    model: str
    messages: list[Message]


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with httpx.AsyncClient(base_url=UPSTREAM, timeout=60) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


def called(response: httpx.Response):
    if response.status_code != 200:
        raise HTTPException(502, response.text)
    return response.json()


@app.post("/v1/chat/completions")
async def create(request: ChatRequest, authorization: str = Header(), x_conversation_id: str | None = Header(None)):
    client: httpx.AsyncClient = app.state.client
    headers = {"Authorization": authorization}
    message = {"message": request.messages[-1].content}
    if x_conversation_id in threads:
        message["thread_id"] = threads[x_conversation_id]
    posted = called(await client.post("/api/newMessage", json=message, headers=headers))
    thread_id = posted["thread_id"]
    if x_conversation_id:
        threads[x_conversation_id] = thread_id
    while True:
        thread = called(await client.get("/api/getThread", params={"threadId": thread_id}, headers=headers))
        status = thread["run_status"]["status"]
        if status == "completed":
            break
        if status in ("failed", "cancelled", "expired"):
            raise HTTPException(502, status)
        await asyncio.sleep(INTERVAL)
    answer = next(message for message in reversed(thread["messages"]) if message["role"] == "assistant")
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer["content"][0]["text"]["value"]},
                "finish_reason": "stop",
            }
        ],
    }
