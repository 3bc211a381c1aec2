import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from coffee.flows import deliver
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from orchestrator import Conflict, NotFound, Orchestrator

engine = create_engine(os.environ["COFFEE_DATABASE_URL"])
flows = Orchestrator.from_env()


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[str] = mapped_column(primary_key=True)
    kilos: Mapped[int]


class NewOrder(BaseModel):
    id: str
    kilos: int
    address: str


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    Base.metadata.create_all(engine)
    yield
    flows.close()
    engine.dispose()


def transaction() -> Iterator[Session]:
    with Session(engine) as session, session.begin():
        yield session


# scope="function": committed before the response is sent, not after it
Transaction = Annotated[Session, Depends(transaction, scope="function")]
app = FastAPI(lifespan=lifespan)


@app.post("/orders", status_code=202)
def place(order: NewOrder, session: Transaction) -> dict[str, str]:
    if session.get(Order, order.id) is None:
        session.add(Order(id=order.id, kilos=order.kilos))
    handle = flows.start(deliver, order.kilos, order.address, key=order.id, session=session)
    if order.kilos > 100:
        raise HTTPException(422, "we have not so much")  # neither order nor delivery
    return {"execution": handle.id}


@app.get("/orders/{order_id}")
def look(order_id: str) -> dict[str, Any]:
    facts = flows.facts((deliver, order_id))
    return {"status": facts.status, "steps": f"{facts.finished} of {facts.started}"}


@app.exception_handler(Conflict)
def conflict(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=409)


@app.exception_handler(NotFound)
def not_found(_: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=404)
