"""A handler of LiteLLM's proxy that asks the upstream."""

import asyncio
import os

import httpx
from litellm import CustomLLM, ModelResponse
from litellm.types.utils import Choices, Message

UPSTREAM = os.environ["UPSTREAM_URL"]
INTERVAL = float(os.environ.get("INTERVAL", "3"))

threads: dict[str, str] = {}


class ChatUrData(CustomLLM):
    def __init__(self):
        super().__init__()
        limits = httpx.Limits(max_connections=1000, max_keepalive_connections=100)
        self.client = httpx.AsyncClient(base_url=UPSTREAM, timeout=60, limits=limits)

    async def acompletion(self, model, messages, *args, litellm_params=None, **kwargs) -> ModelResponse:
        request = (litellm_params or {}).get("proxy_server_request") or {}
        headers = {name.lower(): value for name, value in (request.get("headers") or {}).items()}
        conversation = headers.get("x-conversation-id")
        message = {"message": messages[-1]["content"]}
        if conversation in threads:
            message["thread_id"] = threads[conversation]
        authorization = {"Authorization": "Bearer sk-upstream"}
        response = await self.client.post("/api/newMessage", json=message, headers=authorization)
        response.raise_for_status()
        thread_id = response.json()["thread_id"]
        if conversation:
            threads[conversation] = thread_id
        while True:
            response = await self.client.get(
                "/api/getThread", params={"threadId": thread_id}, headers=authorization
            )
            response.raise_for_status()
            thread = response.json()
            if thread["run_status"]["status"] == "completed":
                break
            await asyncio.sleep(INTERVAL)
        answer = next(message for message in reversed(thread["messages"]) if message["role"] == "assistant")
        text = answer["content"][0]["text"]["value"]
        return ModelResponse(
            model=model,
            choices=[Choices(index=0, finish_reason="stop", message=Message(role="assistant", content=text))],
        )


chaturdata = ChatUrData()
